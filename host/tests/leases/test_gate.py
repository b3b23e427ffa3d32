"""The gate: never more inside than places, in order, and every place comes back whatever ends a wait."""

from __future__ import annotations

import gc
import logging
import pickle
import queue
import signal
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, suppress
from typing import Any, Final, Literal, TypeAlias

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from weighbridge_hookspecs import ConfigurationError, ContextClosed, Gate, GateStatistics, Saturated
from weighbridge_hookspecs.services import Priority

from weighbridge.leases.gate import ConcurrencyGate

PATIENCE: Final = 20.0
"""Seconds after which a test fails that waits for something; none of them comes near."""
PRIORITIES: Final[tuple[Priority, ...]] = ("low", "normal", "high", "critical")
HIGH: Final = 2
News: TypeAlias = tuple[str, int]


def until(condition: Callable[[], object]) -> None:
    """Wait until the other threads have come there."""
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.001)):
        if condition():
            return
        pause.wait(0.001)
    pytest.fail("it did not come")


def run(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


class FakeClock:
    """Seconds as the test wants them."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# --- against a model --------------------------------------------------------------------------------------------------


class Worker:
    """A thread that enters and leaves when it is told to, and says what came of it."""

    def __init__(self, number: int, gate: ConcurrencyGate, news: queue.SimpleQueue[News]) -> None:
        self.number = number
        self.gate = gate
        self.news = news
        self.orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.place: AbstractContextManager[None] | None = None
        self.thread = run(self.work)

    def work(self) -> None:
        while (order := self.orders.get()) is not None:
            order()

    def enter(self, rank: int, timeout: float | None, on_preempt: Callable[[], None] | None) -> None:
        self.place = self.gate.enter(priority=PRIORITIES[rank], timeout_seconds=timeout, on_preempt=on_preempt)
        try:
            self.place.__enter__()
        except (Saturated, ContextClosed) as error:
            self.news.put((type(error).__name__, self.number))
        else:
            self.news.put(("inside", self.number))

    def leave(self) -> None:
        assert self.place is not None
        self.place.__exit__(None, None, None)
        self.news.put(("left", self.number))


@attrs.define(eq=False)
class Request:
    number: int
    rank: int
    preemptible: bool


class GateAgainstAModel(RuleBasedStateMachine):
    """Eight threads at a gate, beside lists that say in which order they have to come in."""

    @initialize(limit=st.integers(1, 4), max_waiting=st.integers(0, 6), reserve=st.sampled_from([0, 0.25, 0.5, 0.99]))
    def begin(self, limit: int, max_waiting: int, reserve: float) -> None:
        self.gate = ConcurrencyGate(limit, max_waiting, reserve=reserve)
        self.limit, self.max_waiting, self.share = limit, max_waiting, reserve
        self.news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self.workers = [Worker(number, self.gate, self.news) for number in range(8)]
        self.inside: list[Request] = []
        self.waiting: list[Request] = []
        self.counts: Counter[str] = Counter()
        self.expected: Counter[News] = Counter()
        self.closed = False

    # The model: what has to happen, from the lists alone.

    def cap(self) -> int:
        return self.limit - int(self.limit * self.share)

    def has_room(self, rank: int) -> bool:
        ordinary = sum(request.rank < HIGH for request in self.inside)
        return len(self.inside) < self.limit and (rank >= HIGH or ordinary < self.cap())

    def admit(self, request: Request) -> None:
        self.inside.append(request)
        self.counts["entered"] += 1
        self.expected["inside", request.number] += 1

    def hand_on(self) -> None:
        for request in sorted(self.waiting, key=lambda request: -request.rank):  # sorted is stable
            if self.has_room(request.rank):
                self.waiting.remove(request)
                self.admit(request)

    def arrive(self, request: Request, timeout: float | None) -> None:
        if self.closed:
            self.expected["ContextClosed", request.number] += 1
        elif self.has_room(request.rank):
            self.admit(request)
        elif self.make_room_to_wait(request):
            if timeout == 0:
                self.counts["timed_out"] += 1
                self.expected["Saturated", request.number] += 1
                return
            self.waiting.append(request)
            self.preempt_for(request)

    def make_room_to_wait(self, request: Request) -> bool:
        if len(self.waiting) < self.max_waiting:
            return True
        self.counts["rejected"] += 1
        lower = [other for other in self.waiting if other.rank < request.rank]
        loser = min(reversed(lower), key=lambda other: other.rank, default=request)
        self.expected["Saturated", loser.number] += 1
        if loser is not request:
            self.waiting.remove(loser)
        return loser is not request

    def preempt_for(self, request: Request) -> None:
        if request.rank < HIGH:
            return
        lower = [other for other in self.inside if other.rank < request.rank and other.preemptible]
        if lower:
            victim = min(reversed(lower), key=lambda other: other.rank)
            victim.preemptible = False
            self.counts["preempted"] += 1
            self.expected["preempted", victim.number] += 1

    # The orders.

    def idle(self) -> list[int]:
        busy = {request.number for request in (*self.inside, *self.waiting)}
        return [number for number in range(8) if number not in busy]

    @rule(
        pick=st.integers(0, 7),
        rank=st.integers(0, 3),
        timeout=st.sampled_from([None, None, None, 0]),
        preemptible=st.booleans(),
    )
    def enter(self, pick: int, rank: int, timeout: float | None, preemptible: bool) -> None:
        idle = self.idle()
        if not idle:
            return
        number = idle[pick % len(idle)]
        self.arrive(Request(number, rank, preemptible), timeout)
        on_preempt = (lambda: self.news.put(("preempted", number))) if preemptible else None
        self.workers[number].orders.put(lambda: self.workers[number].enter(rank, timeout, on_preempt))

    @rule(pick=st.integers(0, 7))
    def leave(self, pick: int) -> None:
        if not self.inside:
            return
        request = self.inside.pop(pick % len(self.inside))
        self.counts["left"] += 1
        self.expected["left", request.number] += 1
        if not self.closed:
            self.hand_on()
        self.workers[request.number].orders.put(self.workers[request.number].leave)

    @rule(limit=st.integers(1, 4))
    def resize(self, limit: int) -> None:
        self.limit = limit
        self.hand_on()
        self.gate.resize(limit)

    @rule(chance=st.integers(0, 99))
    def close(self, chance: int) -> None:
        if chance != 57:  # rarely: there is not much to see afterwards
            return
        self.closed = True
        for request in self.waiting:
            self.counts["sent_away"] += 1
            self.expected["ContextClosed", request.number] += 1
        for request in self.inside:
            request.preemptible = False
        self.waiting.clear()
        self.gate.close()

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "gate"):
            return
        told = Counter(self.news.get(timeout=PATIENCE) for _ in range(self.expected.total()))
        assert told == self.expected
        self.expected.clear()
        until(lambda: self.gate.statistics().waiting == len(self.waiting))
        drawn = self.gate.statistics()
        assert attrs.evolve(drawn, service_seconds=None) == GateStatistics(
            limit=self.limit,
            reserved=self.limit - self.cap(),
            max_waiting=self.max_waiting,
            inside=len(self.inside),
            waiting=len(self.waiting),
            interrupted=0,
            failures=0,
            service_seconds=None,
            **{name: self.counts[name] for name in ("entered", "left", "rejected", "timed_out")},
            **{name: self.counts[name] for name in ("sent_away", "preempted")},
        )
        assert drawn.entered == drawn.inside + drawn.left
        assert (drawn.service_seconds is None) == (drawn.left == 0)
        assert self.news.empty()

    def teardown(self) -> None:
        if hasattr(self, "gate"):
            self.gate.close()
            for worker in self.workers:
                worker.orders.put(None)
            for worker in self.workers:
                worker.thread.join(PATIENCE)
                assert not worker.thread.is_alive()


def test_gate_does_what_the_model_does() -> None:
    """Whatever eight threads do in whatever order, those come in whose turn it is, and the counters say so."""
    run_state_machine_as_test(
        GateAgainstAModel, settings=settings(max_examples=60, stateful_step_count=40, deadline=None)
    )


# --- many threads at once ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_busy_switching")
def test_counters_add_up_under_eight_threads() -> None:
    """Never more than three are inside, and each of the thousands of calls is counted in exactly one way."""
    gate, start = ConcurrencyGate(3, 3, reserve=0.34), threading.Barrier(8)
    inside: dict[int, None] = {}
    most: list[int] = []
    outcomes: Counter[str] = Counter()

    def work(number: int) -> None:
        results: Counter[str] = Counter()
        start.wait()
        for step in range(400):
            kind = (number * 31 + step * 17) % 11
            try:
                with gate.enter(
                    priority=PRIORITIES[kind % 4],
                    timeout_seconds=(None, 0, 1e-5, PATIENCE)[kind % 3],
                    on_preempt=(lambda: None) if kind % 2 else None,
                ):
                    inside[number] = None
                    most.append(len(inside))
                    del inside[number]
                    results["entered"] += 1
            except Saturated:
                results["saturated"] += 1
        outcomes.update(results)

    threads = [run(lambda number=number: work(number)) for number in range(8)]  # type: ignore[misc]
    for thread in threads:
        thread.join()
    drawn = gate.statistics()
    assert max(most) <= 3
    assert (drawn.inside, drawn.waiting, drawn.interrupted, drawn.sent_away) == (0, 0, 0, 0)
    assert drawn.entered == drawn.left == outcomes["entered"]
    assert drawn.rejected + drawn.timed_out == outcomes["saturated"]
    assert drawn.entered + drawn.rejected + drawn.timed_out == 8 * 400


@pytest.mark.usefixtures("_busy_switching")
def test_nobody_overtakes_under_load() -> None:
    """With more threads than places, all of one priority, nobody comes in twice before one that was waiting."""
    gate, start, stop = ConcurrencyGate(1), threading.Barrier(8), threading.Event()
    order: list[int] = []

    def work(number: int) -> None:
        start.wait()
        while not stop.is_set():
            with gate.enter():
                order.append(number)
                if len(order) == 1:
                    until(lambda: gate.statistics().waiting == 7)
                if len(order) >= 4000:
                    stop.set()

    threads = [run(lambda number=number: work(number)) for number in range(8)]  # type: ignore[misc]
    for thread in threads:
        thread.join()
    assert sorted(order[:8]) == list(range(8)), "the seven that waited, before the first one again"
    assert gate.statistics().entered == len(order)


@pytest.mark.usefixtures("_busy_switching")
def test_gate_is_resized_while_it_is_in_use() -> None:
    """Limits that change all the time lose no place, and the highest of them is never passed."""
    gate, done = ConcurrencyGate(2), threading.Event()
    inside: dict[int, None] = {}
    most: list[int] = []

    def work(number: int) -> None:
        for _ in range(400):
            with gate.enter():
                inside[number] = None
                most.append(len(inside))
                del inside[number]

    def resize() -> None:
        while not done.is_set():
            for limit in (1, 5, 2):
                gate.resize(limit)

    resizer = run(resize)
    threads = [run(lambda number=number: work(number)) for number in range(8)]  # type: ignore[misc]
    for thread in threads:
        thread.join()
    done.set()
    resizer.join()
    assert max(most) <= 5
    assert gate.statistics().left == 8 * 400
    assert (gate.statistics().inside, gate.statistics().waiting) == (0, 0)


# --- waits that end otherwise -----------------------------------------------------------------------------------------


def test_interrupted_wait_leaves_the_queue() -> None:
    """Ctrl-C ends the wait of the main thread; its turn passes, and the next one in line gets the place."""
    gate, main, behind_came_in = ConcurrencyGate(1), threading.main_thread().ident, threading.Event()
    assert main is not None
    assert threading.get_ident() == main

    def come_behind() -> None:
        gate.enter().__enter__()
        behind_came_in.set()

    def interrupt() -> None:
        until(lambda: gate.statistics().waiting == 1)
        run(come_behind)
        until(lambda: gate.statistics().waiting == 2)
        signal.pthread_kill(main, signal.SIGINT)

    with gate.enter():
        thread = run(interrupt)
        with pytest.raises(KeyboardInterrupt), gate.enter():
            pytest.fail("it came in")
        assert (gate.statistics().waiting, gate.statistics().interrupted) == (1, 1)
    assert behind_came_in.wait(PATIENCE)
    thread.join()
    assert (gate.statistics().inside, gate.statistics().entered) == (1, 2)


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit], ids=["Ctrl-C", "any other"])
def test_place_handed_to_one_who_is_interrupted_goes_on(error: type[BaseException]) -> None:
    """The place has come and the wait ends with an exception all the same: the place goes to the next one."""
    gate = ConcurrencyGate(1)

    def make_room_and_interrupt() -> None:
        first.__exit__(None, None, None)
        assert gate.statistics().entered == 2, "handed over"
        raise error

    first = gate.enter(priority="low", on_preempt=make_room_and_interrupt)
    first.__enter__()
    with pytest.raises(error), gate.enter(priority="high"):
        pytest.fail("it came in")
    drawn = gate.statistics()
    assert (drawn.inside, drawn.entered, drawn.left, drawn.interrupted) == (0, 1, 1, 1)
    with gate.enter(timeout_seconds=0):
        assert gate.statistics().inside == 1


def test_place_that_comes_as_the_time_is_up_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the end of the wait and the end of the request the place may come; then it is no timeout."""
    gate = ConcurrencyGate(1)
    first = gate.enter()
    first.__enter__()
    give_up = gate._give_up

    def leave_and_give_up(ticket: Any) -> None:
        first.__exit__(None, None, None)
        give_up(ticket)

    monkeypatch.setattr(gate, "_give_up", leave_and_give_up)
    with gate.enter(timeout_seconds=0):
        assert (gate.statistics().inside, gate.statistics().timed_out) == (1, 0)
    assert gate.statistics().left == 2


def test_time_that_is_too_long_for_a_lock_is_no_error() -> None:
    """A timeout may be infinite or beyond what a lock can wait; it waits as long as it can."""
    gate = ConcurrencyGate(1)
    gate.enter().__enter__()
    for seconds in (float("inf"), 1e300):
        thread = run(lambda seconds=seconds: gate.enter(timeout_seconds=seconds).__enter__())  # type: ignore[misc]
        until(lambda: gate.statistics().waiting == 1)
        gate.resize(gate.statistics().limit + 1)
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert gate.statistics().inside == 3


def test_closing_sends_everybody_away() -> None:
    """Who waits gets a clear error, and who comes later too; who is inside leaves in peace."""
    gate, errors = ConcurrencyGate(1), queue.SimpleQueue[str]()

    def wait(priority: Priority) -> None:
        try:
            with gate.enter(priority=priority):
                pytest.fail("it came in")
        except ContextClosed as error:
            errors.put(str(pickle.loads(pickle.dumps(error))))

    with gate.enter():
        threads = [run(lambda priority=priority: wait(priority)) for priority in PRIORITIES]  # type: ignore[misc]
        until(lambda: gate.statistics().waiting == 4)
        gate.close()
        gate.close()
        for thread in threads:
            thread.join(PATIENCE)
        with pytest.raises(ContextClosed), gate.enter():
            pytest.fail("it came in")
        assert gate.statistics().inside == 1
    told = {errors.get(timeout=PATIENCE) for _ in threads}
    assert told == {"the gate is closed. Drop it when the plugin is unloaded"}
    assert (gate.statistics().inside, gate.statistics().sent_away) == (0, 4)


# --- preempting -------------------------------------------------------------------------------------------------------


def test_preempted_place_goes_to_the_one_who_asked() -> None:
    """A request of high priority has low work cancelled, and comes in before those who waited longer."""
    gate, cancelled, order = ConcurrencyGate(1), threading.Event(), list[str]()

    def low_work() -> None:
        with gate.enter(priority="low", on_preempt=cancelled.set):
            assert cancelled.wait(PATIENCE)
            order.append("low is done")

    def normal_work() -> None:
        with gate.enter():
            order.append("normal")

    threads = [run(low_work)]
    until(lambda: gate.statistics().inside == 1)
    threads.append(run(normal_work))
    until(lambda: gate.statistics().waiting == 1)
    with gate.enter(priority="high"):
        order.append("high")
    for thread in threads:
        thread.join(PATIENCE)
    assert order == ["low is done", "high", "normal"]
    assert gate.statistics().preempted == 1


def test_lowest_priority_that_came_last_is_asked_first() -> None:
    """One of those inside for each newcomer, once each; who gave no callback, and who is no lower, is left alone."""
    gate, asked = ConcurrencyGate(6), list[str]()
    inside: tuple[tuple[str, Priority], ...] = (("A", "low"), ("B", "low"), ("C", "normal"), ("D", "high"))
    for name, priority in inside:
        gate.enter(priority=priority, on_preempt=lambda name=name: asked.append(name)).__enter__()  # type: ignore[misc]
    for silent in PRIORITIES[:2]:
        gate.enter(priority=silent).__enter__()
    for _ in range(4):
        with pytest.raises(Saturated):
            gate.enter(priority="high", timeout_seconds=1e-9).__enter__()
    assert asked == ["B", "A", "C"]
    assert gate.statistics().preempted == 3


def test_callback_is_called_outside_of_the_lock(caplog: pytest.LogCaptureFixture) -> None:
    """It may use the gate from another thread; what it raises is logged as text and counted, and the wait goes on."""
    gate = ConcurrencyGate(1)
    drawn: list[GateStatistics] = []

    def look_and_fail() -> None:
        thread = run(lambda: drawn.append(gate.statistics()))
        thread.join(PATIENCE)
        raise SystemExit("stuck")

    with gate.enter(priority="low", on_preempt=look_and_fail):
        thread = run(lambda: gate.enter(priority="critical").__enter__())
        until(lambda: gate.statistics().failures == 1)
        assert drawn[0].waiting == gate.statistics().waiting == 1
    thread.join(PATIENCE)
    assert gate.statistics().inside == 1
    (record,) = caplog.records
    assert (record.name, record.levelno, record.exc_info) == ("weighbridge.gate", logging.ERROR, None)
    assert record.getMessage().startswith("on_preempt raised:\nTraceback")
    assert record.getMessage().endswith("SystemExit: stuck\n")


@pytest.mark.parametrize("ending", ["leave", "close", "time out"])
def test_callback_is_let_go_of(ending: str) -> None:
    """A gate holds nothing of those who left, who were refused, or who are inside once it is closed."""

    class Work:
        def cancel(self) -> None:
            pass

    work = Work()
    dead = weakref.ref(work)
    gate = ConcurrencyGate(1)
    place = gate.enter(priority="low", on_preempt=work.cancel)
    if ending == "time out":
        gate.enter().__enter__()
        with pytest.raises(Saturated):
            gate.enter(timeout_seconds=0, on_preempt=work.cancel).__enter__()
        del place
    else:
        place.__enter__()
    if ending == "leave":
        place.__exit__(None, None, None)
    elif ending == "close":
        gate.close()
    del work
    assert dead() is None


def test_place_left_by_the_collector_is_handed_on_once() -> None:
    """A suspended generator may be ended, and so leave its place, in the midst of the gate's work in that thread."""

    def hold() -> Generator[None]:
        with gate.enter():
            yield

    suspended: list[Generator[None]] = []

    def clock() -> float:
        if suspended and gate.statistics().limit == 3:
            suspended.pop().close()  # as the collector would, in the midst of handing out places
        return 0.0

    gate = ConcurrencyGate(1, clock=clock)
    suspended.append(hold())
    next(suspended[0])
    threads = [run(lambda: gate.enter().__enter__()) for _ in range(5)]
    until(lambda: gate.statistics().waiting == 5)
    gate.resize(3)
    assert suspended == []
    assert (gate.statistics().inside, gate.statistics().waiting, gate.statistics().left) == (3, 2, 1)
    gate.resize(5)
    for thread in threads:
        thread.join(PATIENCE)
    assert gate.statistics().inside == 5


# --- saturation -------------------------------------------------------------------------------------------------------


def saturated(gate: ConcurrencyGate, priority: Priority = "normal") -> Saturated:
    with pytest.raises(Saturated) as caught, gate.enter(priority=priority, timeout_seconds=0):
        pytest.fail("it came in")
    return caught.value


def test_retry_after_is_the_average_times_those_ahead() -> None:
    """With a place held for 4 s on average, two places, and one in line, the next one's turn comes after 4 s."""
    clock = FakeClock()
    gate = ConcurrencyGate(2, 10, clock=clock)
    first, second = gate.enter(), gate.enter()
    first.__enter__()
    second.__enter__()
    assert saturated(gate).retry_after_seconds == 0, "they have just come; nothing says that they will stay"
    clock.now = 3
    assert saturated(gate).retry_after_seconds == 3 * 1 / 2, "nobody has left; one has been inside for 3 s"
    clock.now = 4
    first.__exit__(None, None, None)
    gate.enter().__enter__()
    assert gate.statistics().service_seconds == 4
    thread = run(lambda: gate.enter(priority="high").__enter__())
    until(lambda: gate.statistics().waiting == 1)
    assert saturated(gate, "normal").retry_after_seconds == 4 * 2 / 2
    assert saturated(gate, "critical").retry_after_seconds == 4 * 1 / 2, "it would go before the one that waits"
    clock.now = 12
    second.__exit__(None, None, None)
    thread.join(PATIENCE)
    assert gate.statistics().service_seconds == 4 + (12 - 4) / 8, "a new time counts an eighth"


def test_error_says_how_full_it_is_and_can_be_pickled() -> None:
    """The text of the backpressure has the numbers, and the error survives a pickle."""
    gate = ConcurrencyGate(1, 0)
    with gate.enter():
        error = saturated(gate)
    assert str(error) == "the queue is full (1 of 1 places taken, 0 of 0 waiting)"
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.retry_after_seconds) == (str(error), error.retry_after_seconds)
    assert gate.statistics().rejected == 1


def test_error_is_no_ring() -> None:
    """An error that was handled is gone with its frames at once, and does not wait for the collector."""
    gate = ConcurrencyGate(1)
    gc.disable()
    try:
        with gate.enter():
            try:
                gate.enter(timeout_seconds=0).__enter__()
            except Saturated as error:
                dead = weakref.ref(error)
        assert dead() is None
    finally:
        gc.enable()


ORDER: Final[tuple[Priority, ...]] = ("normal", "high", "high", "normal", "critical", "critical")


def test_full_queue_gives_up_the_last_of_the_lowest_priority() -> None:
    """Who came last has waited least; without anybody of a lower priority the newcomer itself is refused."""
    gate, told = ConcurrencyGate(1, 3), list[tuple[str, str]]()
    threads: list[threading.Thread] = []

    def wait(name: str, priority: Priority) -> None:
        try:
            with gate.enter(priority=priority):
                pass
        except Saturated as error:
            told.append((name, error.message))

    def come(name: str, priority: Priority) -> None:
        came = gate.statistics().waiting + gate.statistics().rejected
        threads.append(run(lambda: wait(name, priority)))
        until(lambda: gate.statistics().waiting + gate.statistics().rejected == came + 1)
        until(lambda: len(told) == gate.statistics().rejected)

    with gate.enter():
        for name in "ab":
            come(name, "low")
        for name, priority in zip("cdefgh", ORDER, strict=True):
            come(name, priority)
    for thread in threads:
        thread.join(PATIENCE)
    taken = "its place in the queue went to a higher priority (1 of 1 places taken, 2 of 3 waiting)"
    assert told == [
        ("b", taken),
        ("a", taken),
        ("f", "the queue is full (1 of 1 places taken, 3 of 3 waiting)"),
        ("c", taken),
        ("e", taken),
    ]
    assert gate.statistics().left == 4


def test_reserved_places_are_for_high_priority_alone() -> None:
    """Of four places with a quarter reserved three are for everybody; the share follows the limit."""
    gate = ConcurrencyGate(4, 0, reserve=0.25)
    for _ in range(3):
        gate.enter(priority="low").__enter__()
    saturated(gate, "normal")
    with gate.enter(priority="high"):
        saturated(gate, "critical")
    gate.resize(8)
    assert gate.statistics().reserved == 2
    for _ in range(3):
        gate.enter().__enter__()
    saturated(gate)
    gate.resize(1)
    assert gate.statistics().reserved == 0


def test_the_queue_is_resized_with_the_limit() -> None:
    """Whoever waits already stays, though there would be no room for one more."""
    gate = ConcurrencyGate(1, 0)
    with gate.enter():
        saturated(gate)
        gate.resize(1, max_waiting=1)
        waiting = run(lambda: gate.enter().__enter__())
        until(lambda: gate.statistics().waiting == 1)
        saturated(gate)
        gate.resize(1, max_waiting=0)
        assert (gate.statistics().max_waiting, gate.statistics().waiting) == (0, 1)
        with pytest.raises(ConfigurationError, match="max_waiting is -1"):
            gate.resize(7, max_waiting=-1)
        assert (gate.statistics().limit, gate.statistics().max_waiting) == (1, 0)
    waiting.join(PATIENCE)
    assert gate.statistics().inside == 1


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, -1, 1.0, True, None, "2"])
def test_limit_has_to_be_a_whole_number(limit: Any) -> None:
    """A limit that lets nobody in is refused, at the start and later; the old one then stays."""
    gate = ConcurrencyGate(2)
    for attempt in (ConcurrencyGate, gate.resize):
        with pytest.raises(ConfigurationError) as caught:
            attempt(limit)
        assert str(caught.value) == f"limit is {limit!r}. Give a whole number from 1 up"
    assert gate.statistics().limit == 2


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"max_waiting": -1}, "max_waiting is -1. Give a whole number from 0 up"),
        ({"max_waiting": 0.5}, "max_waiting is 0.5. Give a whole number from 0 up"),
        ({"reserve": 1}, "reserve is 1. Give the share of places for high priority, from 0 to below 1"),
        ({"reserve": float("nan")}, "reserve is nan. Give the share of places for high priority, from 0 to below 1"),
        ({"reserve": "1/4"}, "reserve is '1/4'. Give the share of places for high priority, from 0 to below 1"),
    ],
)
def test_setting_that_makes_no_sense_is_refused(arguments: dict[str, Any], problem: str) -> None:
    """The text names the setting, says what it was, and what to give."""
    with pytest.raises(ConfigurationError) as caught:
        ConcurrencyGate(4, **arguments)
    assert str(caught.value) == problem


@pytest.mark.parametrize(
    ("arguments", "error", "problem"),
    [
        ({"priority": "urgent"}, ValueError, "a priority of 'urgent': take one of low, normal, high, critical"),
        ({"priority": []}, ValueError, r"a priority of \[\]: take one of low, normal, high, critical"),
        ({"timeout_seconds": -1}, ValueError, "a timeout of -1 seconds: give a number from 0 up, or None"),
        ({"timeout_seconds": float("nan")}, ValueError, "a timeout of nan seconds: give a number from 0 up, or None"),
        ({"timeout_seconds": "1"}, ValueError, "a timeout of '1' seconds: give a number from 0 up, or None"),
        ({"on_preempt": 1}, ConfigurationError, "on_preempt is a int. Give a function"),
    ],
)
def test_bad_request_is_refused_at_once(arguments: dict[str, Any], error: type[Exception], problem: str) -> None:
    """It is refused where it is written, before anybody waits."""
    gate = ConcurrencyGate(1)
    before = gate.statistics()
    with pytest.raises(error, match=problem):
        gate.enter(**arguments)
    assert gate.statistics() == before


def test_place_is_entered_once() -> None:
    """A second entry with the same block is an error, and the place of the first one stays taken."""
    gate = ConcurrencyGate(2)
    place = gate.enter()
    with place:
        with pytest.raises(RuntimeError, match=r"call enter\(\) again"), place:
            pytest.fail("it came in")
        assert gate.statistics().inside == 1
    assert gate.statistics().inside == 0
    place.__exit__(None, None, None)
    assert gate.statistics().left == 1


def test_gate_is_what_the_contract_calls_one() -> None:
    """A plugin that was written against the protocol gets along with this gate; a type checker reads this line."""
    gate: Gate = ConcurrencyGate(1)
    with gate.enter(priority="low", timeout_seconds=1):
        pass


def test_thousand_places_that_nobody_left_go_with_the_gate() -> None:
    """Whatever a plugin forgot to leave is gone with the gate; nothing else holds it."""

    class Mark:
        pass

    kept: Literal[1000] = 1000
    gate = ConcurrencyGate(kept)
    marks = [Mark() for _ in range(kept)]
    dead = [weakref.ref(mark) for mark in marks]
    for mark in marks:
        gate.enter(on_preempt=lambda mark=mark: None).__enter__()  # type: ignore[misc]
    del mark
    marks.clear()
    assert gate.statistics().inside == kept
    gate.close()
    del gate
    gc.collect()
    assert [ref() for ref in dead] == [None] * kept


def test_example_of_the_page() -> None:
    """The example on the page of the service."""
    served: list[str] = []

    # snippet: gate
    gate = ConcurrencyGate(limit=4, max_waiting=100, reserve=0.25)

    def answer(request: str) -> str:
        try:
            with gate.enter(timeout_seconds=2.0):
                served.append(request)
                return "200"
        except Saturated as full:
            return f"503, try again in {full.retry_after_seconds:.1f} s"

    def thumbnails(stop: threading.Event) -> None:
        with gate.enter(priority="low", on_preempt=stop.set):
            while not stop.wait(0.01):
                served.append("thumbnail")

    # end snippet
    stop = threading.Event()
    thread = run(lambda: thumbnails(stop))
    until(lambda: "thumbnail" in served)
    for _ in range(2):
        gate.enter(priority="high").__enter__()
    assert answer("page") == "200"
    gate.enter(priority="high").__enter__()
    with suppress(Saturated), gate.enter(priority="critical", timeout_seconds=PATIENCE):
        served.append("alarm")
    thread.join(PATIENCE)
    assert stop.is_set()
    assert [request for request in served if request != "thumbnail"] == ["page", "alarm"]
