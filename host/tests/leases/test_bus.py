"""The bus: order and bounds for each subscriber, nobody held up by another, and nothing kept after a release."""

from __future__ import annotations

import ctypes
import gc
import logging
import pickle
import queue
import sys
import threading
import tracemalloc
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any, Final

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from weighbridge_hookspecs import Bus, ConfigurationError, ContextClosed, Saturated

from weighbridge.leases.bus import BusStatistics, MessageBus, OwnedBus, Policy, Subscription
from weighbridge.leases.ledger import LeaseLedger
from weighbridge.leases.schedule import TaskStillRunning

PATIENCE: Final = 20.0
"""Seconds after which a test fails that waits for something; none of them comes near."""


def until(condition: Callable[[], object]) -> None:
    """Wait until the other threads have come there."""
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.001)):
        if condition():
            return
        pause.wait(0.001)
    pytest.fail("it did not come")


@pytest.fixture
def bus() -> Iterator[MessageBus]:
    """A bus that must have ended all its threads by the end of the test, and whose counters must add up."""
    before = set(threading.enumerate())
    made = MessageBus("test", join_seconds=PATIENCE)
    yield made
    made.close()
    assert set(threading.enumerate()) <= before
    assert made.thread_idents() == frozenset()
    drawn = made.statistics()
    assert (drawn.subscriptions, drawn.topics, drawn.threads, drawn.pending, drawn.delivering) == (0, 0, 0, 0, 0)
    assert drawn.accepted == drawn.delivered + drawn.dropped + drawn.withdrawn + drawn.discarded


class Stall:
    """A receiver that stays with each message until it is let go."""

    def __init__(self) -> None:
        self.came: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.permits = threading.Semaphore(0)
        self.open = False

    def receive(self, message: Any) -> None:
        self.came.put(message)
        del message
        if not self.open:
            assert self.permits.acquire(timeout=PATIENCE)

    def next(self) -> Any:
        return self.came.get(timeout=PATIENCE)

    def let_go(self) -> None:
        """Of this message and of all that follow."""
        self.open = True
        self.permits.release()


class Thing:
    """A message that has weak references."""


# --- against a model --------------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Modelled:
    """A subscriber as it has to be."""

    topic: str
    max_pending: int
    policy: Policy
    stall: Stall
    subscription: Subscription
    delivering: Any = None
    pending: deque[tuple[int, int]] = attrs.field(factory=deque)
    counts: Counter[str] = attrs.field(factory=Counter)


class BusAgainstAModel(RuleBasedStateMachine):
    """Subscribers that stay with each message until the test lets go, beside plain queues."""

    def __init__(self) -> None:
        super().__init__()
        self.bus = MessageBus("model", max_threads=4, join_seconds=PATIENCE)
        self.ledgers = [LeaseLedger() for _ in range(2)]
        self.owned = [self.own(ledger) for ledger in self.ledgers]
        self.live: list[Modelled] = []
        self.over: list[Modelled] = []
        self.published = 0

    def own(self, ledger: LeaseLedger) -> OwnedBus:
        return OwnedBus(self.bus, "owner", ledger.lend)

    @rule(topic=st.sampled_from("ab"), max_pending=st.integers(1, 3), policy=st.sampled_from(["drop_oldest", "reject"]))
    def subscribe(self, topic: str, max_pending: int, policy: Policy) -> None:
        if len(self.live) == 4:
            return
        stall = Stall()
        subscription = self.bus.subscribe(topic, stall.receive, max_pending=max_pending, policy=policy)
        self.live.append(Modelled(topic, max_pending, policy, stall, subscription))

    @rule(topic=st.sampled_from("abc"), owner=st.integers(0, 1))
    def publish(self, topic: str, owner: int) -> None:
        message = (owner, self.published)
        self.published += 1
        subscribers = [one for one in self.live if one.topic == topic]
        rejecting = sum(not self.offer(one, message) for one in subscribers)
        if not rejecting:
            self.owned[owner].publish(topic, message)
            return
        with pytest.raises(Saturated) as caught:
            self.owned[owner].publish(topic, message)
        wanted = f"{rejecting} of {len(subscribers)} subscribers of {topic!r} have a full queue and reject more"
        assert str(caught.value) == wanted

    def offer(self, one: Modelled, message: tuple[int, int]) -> bool:
        if one.delivering is None:
            one.delivering = message
        elif len(one.pending) < one.max_pending:
            one.pending.append(message)
        elif one.policy == "reject":
            one.counts["rejected"] += 1
            return False
        else:
            one.pending.popleft()
            one.pending.append(message)
            one.counts["dropped"] += 1
        one.counts["accepted"] += 1
        return True

    @rule(pick=st.integers(0, 3))
    def step(self, pick: int) -> None:
        """One subscriber is done with its message, and gets the next one."""
        busy = [one for one in self.live if one.delivering is not None]
        if busy:
            one = busy[pick % len(busy)]
            assert one.stall.next() == one.delivering
            one.stall.permits.release()
            one.counts["delivered"] += 1
            one.delivering = one.pending.popleft() if one.pending else None

    @rule(pick=st.integers(0, 3))
    def release(self, pick: int) -> None:
        if not self.live:
            return
        one = self.live.pop(pick % len(self.live))
        self.over.append(one)
        one.counts["discarded"] += len(one.pending)
        one.pending.clear()
        if one.delivering is not None:
            one.counts["delivered"] += 1
            assert one.stall.next() == one.delivering
            one.delivering = None
            one.stall.let_go()
        one.subscription.release()

    @rule(owner=st.integers(0, 1))
    def withdraw(self, owner: int) -> None:
        """An owner leaves, as long as nobody is busy with a message of its own."""
        if any(one.delivering is not None and one.delivering[0] == owner for one in self.live):
            return
        for one in self.live:
            kept = deque(message for message in one.pending if message[0] != owner)
            one.counts["withdrawn"] += len(one.pending) - len(kept)
            one.pending = kept
        assert self.ledgers[owner].revoke().failures == ()
        with pytest.raises(ContextClosed):
            self.owned[owner].publish("a", "too late")
        self.ledgers[owner] = LeaseLedger()
        self.owned[owner] = self.own(self.ledgers[owner])

    def expected(self) -> BusStatistics:
        counts: Counter[str] = Counter()
        for one in (*self.live, *self.over):
            counts.update(one.counts)
        names = ("accepted", "delivered", "dropped", "rejected", "withdrawn", "discarded")
        return BusStatistics(
            subscriptions=len(self.live),
            topics=len({one.topic for one in self.live}),
            threads=0,
            published=self.published,
            pending=sum(len(one.pending) for one in self.live),
            delivering=sum(one.delivering is not None for one in self.live),
            failures=0,
            **{name: counts[name] for name in names},
        )

    @invariant()
    def agrees(self) -> None:
        wanted = self.expected()
        until(lambda: attrs.evolve(self.bus.statistics(), threads=0) == wanted)
        for one in (*self.live, *self.over):
            drawn = one.subscription.statistics()
            parts = (drawn.pending, drawn.delivering, drawn.dropped, drawn.rejected, drawn.delivered)
            counts = one.counts
            assert parts == (
                len(one.pending),
                one.delivering is not None,
                counts["dropped"],
                counts["rejected"],
                counts["delivered"],
            )
        assert self.bus.statistics().threads <= 4

    def teardown(self) -> None:
        for one in self.live:
            one.stall.let_go()
        self.bus.close()


def test_bus_does_what_the_model_does() -> None:
    """Whatever is published, delivered, released and withdrawn in whatever order, messages and counters agree."""
    run_state_machine_as_test(
        BusAgainstAModel, settings=settings(max_examples=40, stateful_step_count=30, deadline=None)
    )


# --- delivery ---------------------------------------------------------------------------------------------------------


def test_each_subscriber_gets_every_message_in_order(bus: MessageBus) -> None:
    """With eight threads publishing, all subscribers get all messages in one and the same order, one at a time."""
    received: list[list[tuple[int, int]]] = [[] for _ in range(3)]
    busy, overlaps = [0] * 3, list[int]()

    def receiver(number: int) -> Callable[[tuple[int, int]], None]:
        def receive(message: tuple[int, int]) -> None:
            busy[number] += 1
            received[number].append(message)
            overlaps.append(busy[number])
            busy[number] -= 1

        return receive

    def publish(number: int) -> None:
        for step in range(200):
            bus.publish("news", (number, step))

    for number in range(3):
        bus.subscribe("news", receiver(number))
    threads = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: bus.statistics().delivered == 3 * 8 * 200)
    assert received[0] == received[1] == received[2]
    for number in range(8):
        assert [step for sender, step in received[0] if sender == number] == list(range(200))
    assert set(overlaps) == {1}


def test_stalled_subscriber_holds_up_nobody(bus: MessageBus) -> None:
    """While one stays with its first message the others get all of theirs."""
    stall, received = Stall(), list[int]()
    bus.subscribe("news", stall.receive)
    other = bus.subscribe("news", received.append)
    for number in range(1000):
        bus.publish("news", number)
    until(lambda: other.statistics().delivered == 1000)
    assert received == list(range(1000))
    assert bus.statistics().delivering == 1
    stall.let_go()


def test_queue_of_a_stalled_subscriber_ends_at_the_bound(bus: MessageBus) -> None:
    """Of 20,000 messages the newest 10,000 wait, one is being delivered, and all others are counted as dropped."""
    stall = Stall()
    subscription = bus.subscribe("news", stall.receive)
    bus.publish("news", 0)
    assert stall.next() == 0
    most = 0
    for number in range(1, 20_000):
        bus.publish("news", number)
        most = max(most, subscription.statistics().pending)
    drawn = subscription.statistics()
    assert (most, drawn.pending, drawn.delivering, drawn.accepted) == (10_000, 10_000, 1, 20_000)
    assert drawn.dropped == 20_000 - 10_000 - 1
    stall.let_go()
    until(lambda: subscription.statistics().delivered == 10_001)
    assert [stall.next() for _ in range(10_000)] == list(range(10_000, 20_000))


def test_queue_that_rejects_keeps_the_oldest_and_tells_the_publisher(bus: MessageBus) -> None:
    """With the other policy the first 10,000 wait, every later one is refused, and other subscribers get it anyhow."""
    stall, others, refused = Stall(), list[int](), 0
    subscription = bus.subscribe("news", stall.receive, policy="reject")
    bus.subscribe("news", others.append, max_pending=20_000)
    bus.publish("news", 0)
    assert stall.next() == 0
    for number in range(1, 20_000):
        try:
            bus.publish("news", number)
        except Saturated as error:
            refused += 1
            text = str(pickle.loads(pickle.dumps(error)))
    drawn = subscription.statistics()
    assert (drawn.pending, drawn.dropped, drawn.rejected, refused) == (10_000, 0, 9_999, 9_999)
    assert text == "1 of 2 subscribers of 'news' have a full queue and reject more"
    stall.let_go()
    until(lambda: len(others) == 20_000 and subscription.statistics().pending == 0)
    assert [stall.next() for _ in range(10_000)] == list(range(1, 10_001))


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_receiver_that_raises_gets_the_next_message(
    bus: MessageBus, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    """Whatever it raises is logged as text and counted, and neither it nor others miss a message."""
    received: list[int] = []

    def fail(message: int) -> None:
        received.append(message)
        raise error("stuck")

    subscription = bus.subscribe("news", fail, name="lamp.fail")
    bus.publish("news", 1)
    bus.publish("news", 2)
    until(lambda: subscription.statistics().delivered == 2)
    assert received == [1, 2]
    assert subscription.statistics().failures == bus.statistics().failures == 2
    message = caplog.records[0].getMessage()
    assert message.startswith("lamp.fail, a subscriber of 'news', raised:\nTraceback")
    assert message.endswith(f"{error.__name__}: stuck\n")
    assert {(record.name, record.levelno, record.exc_info) for record in caplog.records} == {
        ("weighbridge.bus", logging.ERROR, None)
    }


def test_receiver_may_publish_and_subscribe(bus: MessageBus) -> None:
    """A receiver runs outside of the lock: it may publish to its own topic, and make and end subscriptions."""
    received: list[int] = []

    def count_down(number: int) -> None:
        received.append(number)
        bus.subscribe(f"other {number}", received.append).release()
        if number:
            bus.publish("news", number - 1)

    bus.subscribe("news", count_down)
    bus.publish("news", 5)
    until(lambda: received == [5, 4, 3, 2, 1, 0])
    assert bus.statistics().topics == 1


def test_message_may_publish_when_it_goes(bus: MessageBus) -> None:
    """A message that gives way is let go of outside of the lock: its finalizer may wait for others who use the bus."""
    drawn: list[BusStatistics] = []

    class Will:
        def __del__(self) -> None:
            bus.publish("wills", "read")
            thread = threading.Thread(target=lambda: drawn.append(bus.statistics()))
            thread.start()
            thread.join(PATIENCE)

    stall, wills = Stall(), list[str]()
    bus.subscribe("news", stall.receive, max_pending=1)
    bus.subscribe("wills", wills.append)
    bus.publish("news", 1)
    stall.next()
    bus.publish("news", Will())
    bus.publish("news", 2)
    until(lambda: wills == ["read"])
    assert drawn[0].dropped == 1
    stall.let_go()


def test_message_is_not_kept_after_its_delivery(bus: MessageBus) -> None:
    """A thread that waits for work holds neither the last message nor the last receiver."""

    class Receiver:
        def receive(self, message: Thing) -> None:
            pass

    receiver, message = Receiver(), Thing()
    dead: list[weakref.ref[Any]] = [weakref.ref(receiver), weakref.ref(message)]
    subscription = bus.subscribe("news", receiver.receive)
    keeper = bus.subscribe("other", print)
    bus.publish("news", message)
    del message, receiver
    until(lambda: subscription.statistics().delivered == 1)
    assert dead[1]() is None
    assert dead[0]() is not None, "held by the lease"
    subscription.release()
    assert dead[0]() is None
    keeper.release()


# --- releasing --------------------------------------------------------------------------------------------------------


def wait_until_inside(thread: threading.Thread, function: str) -> None:
    """Wait until `thread` is somewhere below a function of that name."""
    while thread.is_alive():
        frame = sys._current_frames().get(thread.ident or 0)
        while frame is not None:
            if frame.f_code.co_name == function:
                return
            frame = frame.f_back
    pytest.fail(f"{thread.name} has ended and was never seen in {function}")


def test_release_waits_for_the_call_under_way(bus: MessageBus) -> None:
    """Once it has returned the receiver runs no more; what waited is gone without being delivered."""
    stall, order = Stall(), list[str]()

    def receive(message: str) -> None:
        stall.receive(message)
        order.append("the call has ended")

    def release() -> None:
        subscription.release()
        order.append("release has returned")

    subscription = bus.subscribe("news", receive)
    for text in ("delivered", "discarded", "discarded"):
        bus.publish("news", text)
    assert stall.next() == "delivered"
    releasers = [threading.Thread(target=release) for _ in range(2)]
    for thread in releasers:
        thread.start()
        wait_until_inside(thread, "_await")
    stall.let_go()
    for thread in releasers:
        thread.join()
    assert order == ["the call has ended", "release has returned", "release has returned"]
    bus.publish("news", "nobody hears it")
    drawn = subscription.statistics()
    assert (drawn.accepted, drawn.delivered, drawn.discarded, stall.came.empty()) == (3, 1, 2, True)
    assert repr(subscription).endswith("of 'news' released>")


def test_receiver_may_release_itself(bus: MessageBus) -> None:
    """A release from within the call does not wait for itself, and no other message comes."""
    received, ready = list[int](), threading.Event()

    def receive(message: int) -> None:
        ready.wait(PATIENCE)
        received.append(message)
        subscription.release()

    subscription = bus.subscribe("news", receive)
    bus.publish("news", 1)
    bus.publish("news", 2)
    ready.set()
    until(lambda: subscription.statistics().delivered == 1)
    assert (received, subscription.statistics().discarded) == ([1], 1)


def test_receiver_may_close_the_bus() -> None:
    """A close from within a call waits for the other threads, and its own ends when the call does."""
    bus, closed = MessageBus("test", join_seconds=PATIENCE), threading.Event()

    def receive(message: int) -> None:
        bus.close()
        closed.set()

    bus.subscribe("news", receive)
    bus.subscribe("news", lambda message: None)
    threads = {thread for thread in threading.enumerate() if thread.ident in bus.thread_idents()}
    bus.publish("news", 1)
    assert closed.wait(PATIENCE)
    for thread in threads:
        thread.join(PATIENCE)
    assert bus.thread_idents() == frozenset()


def test_call_that_does_not_end_is_named_with_its_stack() -> None:
    """A release gives up at the deadline and says where the call is; so does a close; no other call comes."""
    bus, stall = MessageBus("slow", join_seconds=0.01), Stall()
    subscription = bus.subscribe("news", stall.receive, name="lamp.brood")
    bus.publish("news", 1)
    bus.publish("news", 2)
    assert stall.next() == 1
    with pytest.raises(TaskStillRunning) as caught:
        subscription.release()
    assert str(caught.value).startswith("subscriber 'lamp.brood' of 'news' did not stop in time; it is at\n")
    assert "in receive" in str(caught.value)
    with pytest.raises(TaskStillRunning, match="thread 'slow-bus' did not stop in time"):
        bus.close()
    assert bus.statistics().subscriptions == 0
    (thread,) = [thread for thread in threading.enumerate() if thread.ident in bus.thread_idents()]
    stall.let_go()
    thread.join(PATIENCE)
    assert stall.came.empty()
    bus.close()


def test_released_subscription_holds_nothing(bus: MessageBus) -> None:
    """Receiver and waiting messages are gone with the release, without a collection, while the bus goes on."""
    receiver, waiting, busy_elsewhere = Stall(), Thing(), Stall()
    dead: list[weakref.ref[Any]] = [weakref.ref(receiver), weakref.ref(waiting)]
    bus.subscribe("other", busy_elsewhere.receive)
    bus.publish("other", "long")
    subscription = bus.subscribe("news", receiver.receive)
    bus.publish("news", "first")
    assert receiver.next() == "first"
    bus.publish("news", waiting)
    receiver.permits.release()
    assert receiver.next() is waiting
    bus.publish("news", waiting)
    receiver.let_go()
    gc.disable()
    try:
        subscription.release()
        del receiver, waiting
        assert [ref() for ref in dead] == [None, None]
    finally:
        gc.enable()
    busy_elsewhere.let_go()


def test_owner_takes_its_messages_along(bus: MessageBus) -> None:
    """Objects of one owner that wait in the queue of another go when the ledger is revoked; those of others stay."""
    ledgers = [LeaseLedger(), LeaseLedger()]
    first, second = (OwnedBus(bus, name, ledger.lend) for name, ledger in zip("ab", ledgers, strict=True))
    stall, message = Stall(), Thing()
    dead = weakref.ref(message)
    bus.subscribe("news", stall.receive)
    second.publish("news", "busy with it")
    assert stall.next() == "busy with it"
    first.publish("news", message)
    second.publish("news", "kept")
    first.subscribe("news", print)
    del message
    assert ledgers[0].statistics().held == {"messages": 1, "subscription": 1}
    assert ledgers[0].revoke().failures == ()
    assert dead() is None
    drawn = bus.statistics()
    assert (drawn.withdrawn, drawn.pending, drawn.subscriptions) == (1, 1, 1)
    for call in (lambda: first.publish("news", 1), lambda: first.subscribe("news", print)):
        with pytest.raises((ContextClosed, RuntimeError), match="closed"):
            call()
    assert bus.statistics().subscriptions == 1
    stall.let_go()
    assert stall.next() == "kept"


def test_owner_waits_for_its_message_under_way() -> None:
    """While another one is busy with an owner's object the owner cannot leave; at the deadline an error says who."""
    bus, ledger, stall = MessageBus("slow", join_seconds=0.01), LeaseLedger(), Stall()
    owned = OwnedBus(bus, "a", ledger.lend)
    subscription = bus.subscribe("news", stall.receive, name="b.brood")
    owned.publish("news", Thing())
    stall.next()
    (failure,) = ledger.revoke().failures
    assert "subscriber 'b.brood' of 'news' did not stop in time; it is at" in failure
    stall.let_go()
    until(lambda: subscription.statistics().delivered == 1)
    bus.close()


def test_closed_bus_says_so() -> None:
    """What is asked of a closed bus is an error that can be pickled; closing and releasing again do nothing."""
    bus = MessageBus()
    subscription = bus.subscribe("news", print)
    bus.close()
    bus.close()
    subscription.release()
    for call in (lambda: bus.publish("news", 1), lambda: bus.subscribe("news", print)):
        with pytest.raises(ContextClosed) as caught:
            call()
        text = str(pickle.loads(pickle.dumps(caught.value)))
        assert text == "the bus is closed. Drop it when the plugin is unloaded"


# --- threads ----------------------------------------------------------------------------------------------------------


def test_threads_are_bounded_and_nobody_is_forgotten() -> None:
    """With more stalled subscribers than threads the others wait, and get their messages when a thread is free."""
    bus = MessageBus("few", max_threads=2, join_seconds=PATIENCE)
    stalls, received = [Stall(), Stall()], list[int]()
    for stall in stalls:
        bus.subscribe("stall", stall.receive)
    for _ in range(20):
        bus.subscribe("news", received.append)
    bus.publish("stall", 0)
    for stall in stalls:
        stall.next()
    for number in range(10):
        bus.publish("news", number)
    assert (received, bus.statistics().threads, bus.statistics().pending) == ([], 2, 200)
    stalls[0].let_go()
    until(lambda: len(received) == 200)
    assert Counter(received) == dict.fromkeys(range(10), 20)
    stalls[1].let_go()
    bus.close()


def test_threads_that_are_not_needed_end() -> None:
    """After a rush one thread stays as long as somebody is subscribed, and none with nobody."""
    bus = MessageBus("rush", idle_seconds=0.001, join_seconds=PATIENCE)
    stalls = [Stall() for _ in range(6)]
    subscriptions = [bus.subscribe("news", stall.receive) for stall in stalls]
    bus.publish("news", 0)
    for stall in stalls:
        stall.next()
    assert bus.statistics().threads == 6
    for stall in stalls:
        stall.let_go()
    until(lambda: bus.statistics().threads == 1)
    until(lambda: len(bus.thread_idents()) == 1)
    (ident,) = bus.thread_idents()
    threading.Event().wait(0.02)  # twenty times as long as a thread more than one stays
    assert bus.thread_idents() == {ident}
    bus.publish("news", 1)
    until(lambda: bus.statistics().delivered == 12)
    for subscription in subscriptions:
        subscription.release()
    until(lambda: not bus.thread_idents())
    bus.subscribe("news", print)
    bus.close()


def test_work_that_comes_as_a_thread_retires_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the end of its wait and its end a thread may be given something to do; then it does that."""
    bus, received, given = MessageBus("rush", idle_seconds=0.001, join_seconds=PATIENCE), list[int](), list[bool]()
    retire = bus._retire

    def publish_and_retire(worker: Any) -> bool:
        if not given:
            given.append(True)
            bus.publish("news", 2)
        return retire(worker)

    monkeypatch.setattr(bus, "_retire", publish_and_retire)
    stalls = [Stall(), Stall()]
    for stall in stalls:
        bus.subscribe("stall", stall.receive)
    bus.subscribe("news", received.append)
    bus.publish("stall", 1)
    for stall in stalls:
        stall.next()
        stall.let_go()
    until(lambda: received == [2] and bus.statistics().delivering == 0)
    assert (given, bus.statistics().delivered) == ([True], 3)
    bus.close()


def test_publishing_in_the_midst_of_publishing_does_not_hang(bus: MessageBus) -> None:
    """A finalizer that the collector runs in a thread at work in the bus may publish; so may a topic that is hashed."""

    class Nosy(str):
        def __hash__(self) -> int:
            if inside:
                inside.pop()
                bus.publish("news", "from within")
            return str.__hash__(self)

    received, inside = list[str](), [True]
    bus.subscribe("news", received.append)
    thread = threading.Thread(target=bus.publish, args=(Nosy("news"), "from outside"), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    until(lambda: received == ["from within", "from outside"])


def test_without_any_thread_nothing_is_subscribed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system gives no thread, the first subscription fails and leaves nothing; a later one tries again."""
    bus = MessageBus("none", join_seconds=PATIENCE)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            bus.subscribe("news", print)
    assert bus.statistics().subscriptions == bus.statistics().topics == bus.statistics().threads == 0
    stall, received = Stall(), list[int]()
    bus.subscribe("stall", stall.receive)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        bus.subscribe("news", received.append)
        bus.publish("stall", 1)
        stall.next()
        bus.publish("news", 2)
        assert bus.statistics().threads == 1
    stall.let_go()
    until(lambda: received == [2])
    bus.close()


def test_thread_that_is_interrupted_goes_on(bus: MessageBus, caplog: pytest.LogCaptureFixture) -> None:
    """An exception that somebody raises in a thread of the bus is logged, and loses no message."""
    received: list[int] = []
    bus.subscribe("news", received.append)
    bus.publish("news", 1)
    until(lambda: bus.statistics().delivered == 1)
    (ident,) = bus.thread_idents()
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(SystemExit))
    bus.publish("news", 2)
    bus.publish("news", 3)
    until(lambda: received == [1, 2, 3] and bus.statistics().delivering == 0)
    assert any("SystemExit" in record.getMessage() for record in caplog.records)
    assert bus.thread_idents() == {ident}


def test_thousand_subscriptions_leave_nothing() -> None:
    """Round after round of a thousand subscriptions that nobody released, memory and threads stay where they were."""
    bus, before = MessageBus("rounds", join_seconds=PATIENCE), set(threading.enumerate())

    def round_of_use() -> None:
        ledger = LeaseLedger()
        owned = OwnedBus(bus, "owner", ledger.lend)
        for number in range(1000):
            owned.subscribe(f"topic {number}", lambda message: None)
            owned.publish(f"topic {number}", bytearray(64))
        revocation = ledger.revoke()
        assert (revocation.failures, revocation.revoked) == ((), {"subscription": 1000, "messages": 1})
        until(lambda: set(threading.enumerate()) <= before)
        gc.collect()

    tracemalloc.start()
    try:
        round_of_use()
        round_of_use()
        held = tracemalloc.get_traced_memory()[0]
        for _ in range(3):
            round_of_use()
        grown = tracemalloc.get_traced_memory()[0] - held
    finally:
        tracemalloc.stop()
    assert grown < 1000 * 8, "less than 8 bytes for each subscription of one round"
    assert bus.statistics().subscriptions == 0
    bus.close()


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", ["", None, 5, b"news", ["news"]])
def test_topic_has_to_be_a_text(bus: MessageBus, topic: Any) -> None:
    """A topic that is none is refused on both sides, and nothing was done."""
    for call in (lambda: bus.publish(topic, 1), lambda: bus.subscribe(topic, print)):
        with pytest.raises(ValueError, match="give a text that is not empty") as caught:
            call()
        assert str(caught.value).startswith(f"a topic of {topic!r}: ")
    assert bus.statistics().published == bus.statistics().subscriptions == 0
    assert bus.thread_idents() == frozenset()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"receive": "print"}, "receive is a str. Give a function"),
        ({"max_pending": 0}, "max_pending is 0. Give a whole number from 1 up"),
        ({"max_pending": None}, "max_pending is None. Give a whole number from 1 up"),
        ({"policy": "block"}, "policy is 'block'. Take one of drop_oldest, reject"),
    ],
)
def test_subscription_that_makes_no_sense_is_refused(bus: MessageBus, arguments: dict[str, Any], problem: str) -> None:
    """The text names the argument and says what to give; nothing is subscribed."""
    with pytest.raises(ConfigurationError) as caught:
        bus.subscribe("news", **{"receive": print, **arguments})
    assert str(caught.value) == problem
    assert bus.statistics().subscriptions == 0


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"max_threads": 0}, "max_threads is 0. Give a whole number from 1 up"),
        ({"join_seconds": -1}, "join_seconds is -1. Give a number of seconds from 0 up"),
        ({"idle_seconds": float("nan")}, "idle_seconds is nan. Give a number of seconds from 0 up"),
        ({"idle_seconds": "5"}, "idle_seconds is '5'. Give a number of seconds from 0 up"),
    ],
)
def test_bus_that_makes_no_sense_is_refused(arguments: dict[str, Any], problem: str) -> None:
    """The text names the setting and says what to give."""
    with pytest.raises(ConfigurationError) as caught:
        MessageBus(**arguments)
    assert str(caught.value) == problem


def test_endless_times_are_cut_to_what_a_lock_can_wait() -> None:
    """A bus may be told to wait for ever; its threads and its close work all the same."""
    bus = MessageBus(join_seconds=float("inf"), idle_seconds=1e300)
    stalls = [Stall(), Stall()]
    for stall in stalls:
        bus.subscribe("news", stall.receive)
    bus.publish("news", 1)
    for stall in stalls:
        stall.next()
        stall.let_go()
    until(lambda: bus.statistics().delivered == 2)
    bus.close()
    assert bus.thread_idents() == frozenset()


def test_bus_is_what_the_contract_calls_one(bus: MessageBus) -> None:
    """A plugin that was written against the protocol gets along with both; a type checker reads these lines."""
    received: list[str] = []
    services: tuple[Bus, Bus] = (bus, OwnedBus(bus, "owner", LeaseLedger().lend))
    for service in services:
        lease = service.subscribe("news", received.append, max_pending=10)
        service.publish("news", "hello")
        until(lambda: bus.statistics().pending == bus.statistics().delivering == 0)
        lease.release()
    assert received == ["hello", "hello"]


def test_example_of_the_page() -> None:
    """The example on the page of the service."""
    # snippet: bus
    bus = MessageBus()
    seen: list[str] = []
    lease = bus.subscribe("kettle.boils", seen.append, max_pending=100)
    bus.publish("kettle.boils", "95 degrees")
    bus.publish("kettle.cools", "nobody listens")
    # end snippet
    until(lambda: seen == ["95 degrees"])
    lease.release()
    bus.close()
    assert (lease.statistics().delivered, bus.statistics().published) == (1, 2)
