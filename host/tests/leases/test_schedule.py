"""Timers and supervised threads: they end when they are told to, and an exception ends nothing."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from weighbridge_hookspecs import StopToken

from weighbridge.leases.schedule import Scheduler, ScheduleStatistics, TaskStillRunning

PATIENCE = 20.0
"""Seconds after which a test fails that waits for an event; none of them comes near."""


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    """A scheduler that must have ended all its threads by the end of the test."""
    before = set(threading.enumerate())
    made = Scheduler("test")
    yield made
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive(), f"{thread.name} was left behind"
    assert made.statistics().timers == 0
    assert made.statistics().threads == 0
    assert made.thread_idents() == frozenset()


def seen(event: threading.Event) -> bool:
    return event.wait(PATIENCE)


def test_a_timer_calls_again_and_again(scheduler: Scheduler) -> None:
    """The call comes until it is cancelled, always from the one timer thread, and never after."""
    calls: list[str] = []
    third = threading.Event()

    def tick() -> None:
        calls.append(threading.current_thread().name)
        if len(calls) == 3:
            third.set()

    cancel = scheduler.every(0.001, tick, name="tick")
    assert seen(third)
    cancel()
    number = len(calls)
    cancel()
    assert set(calls) == {"test-timers"}
    assert scheduler.statistics() == ScheduleStatistics(timers=0, threads=0, calls=number, failures=0)


@pytest.mark.parametrize(
    "error",
    [ValueError("stuck"), SystemExit("stuck"), KeyboardInterrupt("stuck"), GeneratorExit("stuck")],
    ids=lambda error: type(error).__name__,
)
def test_a_timer_that_raises_is_called_again(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    """Whatever a call raises is logged as text and counted; the next call comes, and other timers go on."""
    calls, second, other = count(1), threading.Event(), threading.Event()

    def fail() -> None:
        if next(calls) == 2:
            second.set()
        raise error

    cancel = scheduler.every(0.001, fail, name="lamp.fail")
    assert seen(second)
    cancel_other = scheduler.every(0.001, other.set, name="other")
    assert seen(other)
    cancel()
    cancel_other()
    assert scheduler.statistics().failures >= 2
    assert scheduler.statistics().calls > scheduler.statistics().failures
    message = caplog.records[0].getMessage()
    assert message.startswith("lamp.fail raised:\nTraceback")
    assert message.endswith(f"{type(error).__name__}: stuck\n")
    assert caplog.records[0].exc_info is None
    assert {record.name for record in caplog.records} == {"weighbridge.schedule"}
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


def wait_until_inside(thread: threading.Thread, function: str) -> None:
    """Wait until `thread` is somewhere below a function of that name."""
    while thread.is_alive():
        frame = sys._current_frames().get(thread.ident or 0)
        while frame is not None:
            if frame.f_code.co_name == function:
                return
            frame = frame.f_back
    pytest.fail(f"{thread.name} has ended and was never seen in {function}")


def test_cancelling_waits_for_the_call_under_way(scheduler: Scheduler) -> None:
    """Once cancel has returned nothing of the callback runs any more, so what it uses may be taken away."""
    entered, leave, order = threading.Event(), threading.Event(), list[str]()

    def tick() -> None:
        entered.set()
        leave.wait(PATIENCE)
        order.append("the call has ended")

    cancel = scheduler.every(0.001, tick, name="tick")
    assert seen(entered)

    def cancel_it() -> None:
        cancel()
        order.append("cancel has returned")

    canceller = threading.Thread(target=cancel_it)
    canceller.start()
    wait_until_inside(canceller, "wait")
    leave.set()
    canceller.join()
    assert order == ["the call has ended", "cancel has returned"]


def test_a_timer_may_cancel_itself(scheduler: Scheduler) -> None:
    """A callback that cancels its own timer does not wait for itself, and is not called again."""
    calls, ready, done = list[int](), threading.Event(), threading.Event()

    def tick() -> None:
        calls.append(1)
        ready.wait(PATIENCE)
        cancel()
        done.set()

    cancel = scheduler.every(0.001, tick, name="once")
    (clock,) = [thread for thread in threading.enumerate() if thread.name == "test-timers"]
    ready.set()
    assert seen(done)
    clock.join(PATIENCE)
    assert calls == [1]
    assert scheduler.statistics().timers == 0


def test_a_timer_may_cancel_another_one(scheduler: Scheduler) -> None:
    """On the timer thread no other timer can be under way, so cancelling one there never waits."""
    done = threading.Event()
    cancel_other = scheduler.every(1000, lambda: None, name="other")

    def tick() -> None:
        cancel_other()
        done.set()

    cancel = scheduler.every(0.001, tick, name="tick")
    assert seen(done)
    cancel()


def test_a_timer_may_start_another_one(scheduler: Scheduler) -> None:
    """A callback may ask for a timer of its own; it comes although the thread is busy just now."""
    cancels, done = list[Callable[[], None]](), threading.Event()

    def tick() -> None:
        if not cancels:
            cancels.append(scheduler.every(0.001, done.set, name="second"))

    cancel = scheduler.every(0.001, tick, name="first")
    assert seen(done)
    cancel()
    cancels[0]()


def test_a_call_that_does_not_end_is_named_with_its_stack() -> None:
    """Cancelling gives up at the deadline and names the timer and where it is; the timer is not called again."""
    scheduler, entered, leave = Scheduler("slow", join_seconds=0.05), threading.Event(), threading.Event()
    calls = []

    def brood() -> None:
        calls.append(1)
        entered.set()
        leave.wait(PATIENCE)

    cancel = scheduler.every(0.001, brood, name="lamp.brood")
    assert seen(entered)
    (clock,) = [thread for thread in threading.enumerate() if thread.name == "slow-timers"]
    with pytest.raises(TaskStillRunning) as caught:
        cancel()
    text = str(caught.value)
    leave.set()
    clock.join(PATIENCE)
    assert text.startswith("timer 'lamp.brood' did not stop in time; it is at\n")
    assert "in brood" in text
    assert "leave.wait(PATIENCE)" in text
    assert calls == [1]
    assert not clock.is_alive()


@pytest.mark.parametrize("seconds", [0, -1, -0.0, float("nan")])
def test_an_interval_has_to_be_above_0(scheduler: Scheduler, seconds: float) -> None:
    """A timer that would be due for ever is refused, and no thread was started for it."""
    with pytest.raises(ValueError, match="interval") as caught:
        scheduler.every(seconds, lambda: None, name="tick")
    assert str(caught.value) == f"every {seconds!r} seconds: the interval has to be above 0"
    assert scheduler.thread_idents() == frozenset()


@pytest.mark.parametrize("seconds", [float("inf"), 1e300, threading.TIMEOUT_MAX * 2])
def test_a_timer_that_is_never_due_does_not_stop_the_others(scheduler: Scheduler, seconds: float) -> None:
    """No lock waits that long; the thread that all timers share has to survive it."""
    called = threading.Event()
    cancel_never = scheduler.every(seconds, lambda: pytest.fail("it was called"), name="never")
    (clock,) = [thread for thread in threading.enumerate() if thread.name == "test-timers"]
    wait_until_inside(clock, "wait")
    cancel = scheduler.every(0.001, called.set, name="tick")
    assert seen(called)
    cancel()
    cancel_never()
    assert scheduler.statistics().failures == 0


def test_a_thousand_timers_share_one_thread(scheduler: Scheduler) -> None:
    """Every timer is called, all of them from one and the same thread, which ends with the last one."""
    before = threading.active_count()
    events = [threading.Event() for _ in range(1000)]
    idents: set[int] = set()

    def caller(event: threading.Event) -> Callable[[], None]:
        def call() -> None:
            idents.add(threading.get_ident())
            event.set()

        return call

    cancels = [scheduler.every(0.001, caller(event), name=f"{i}") for i, event in enumerate(events)]
    assert all(seen(event) for event in events)
    assert threading.active_count() == before + 1
    assert scheduler.statistics().timers == 1000
    assert scheduler.thread_idents() == idents
    for cancel in cancels:
        cancel()
    assert len(idents) == 1


def test_a_timer_is_counted_while_it_is_called(scheduler: Scheduler) -> None:
    """A timer is one of the timers also in the moment in which it is not waiting."""
    entered, leave = threading.Event(), threading.Event()

    def tick() -> None:
        entered.set()
        leave.wait(PATIENCE)

    cancel = scheduler.every(0.001, tick, name="tick")
    assert seen(entered)
    assert scheduler.statistics().timers == 1
    leave.set()
    cancel()
    assert scheduler.statistics().timers == 0


def test_a_slow_timer_is_called_rarely_and_a_quick_one_often(scheduler: Scheduler) -> None:
    """Each timer keeps its own interval: one that is due in an hour is not called while another ticks."""
    calls, tenth = list[int](), threading.Event()

    def tick() -> None:
        calls.append(1)
        if len(calls) == 10:
            tenth.set()

    cancel_slow = scheduler.every(3600, lambda: pytest.fail("an hour has not passed"), name="slow")
    cancel = scheduler.every(0.001, tick, name="quick")
    assert seen(tenth)
    cancel()
    cancel_slow()
    assert scheduler.statistics().failures == 0


def test_no_thread_is_left_without_timers(scheduler: Scheduler) -> None:
    """The timer thread ends with the last timer and a new one begins with the next, as often as you like."""
    for _ in range(20):
        called = threading.Event()
        cancel = scheduler.every(0.0001, called.set, name="tick")
        (clock,) = [thread for thread in threading.enumerate() if thread.name == "test-timers"]
        assert seen(called)
        cancel()
        clock.join(PATIENCE)
        assert not clock.is_alive()


def test_a_cancelled_timer_is_not_held(scheduler: Scheduler) -> None:
    """When cancel has returned nobody refers to the callback, also if it raised; a plugin can be unloaded."""

    class Lamp:
        def __init__(self) -> None:
            self.called = threading.Event()

        def tick(self) -> None:
            self.called.set()
            raise ValueError("stuck")

    keep = scheduler.every(1000, lambda: None, name="keeps the thread alive")
    gc.collect()
    gc.disable()
    try:
        lamp = Lamp()
        reference = weakref.ref(lamp)
        cancel = scheduler.every(0.001, lamp.tick, name="tick")
        assert seen(lamp.called)
        del lamp
        cancel()
        assert reference() is None
    finally:
        gc.enable()
        keep()


def test_a_cancelled_timer_that_was_never_due_is_not_held(scheduler: Scheduler) -> None:
    """A timer that would be due in an hour is let go of now."""

    class Lamp:
        def tick(self) -> None:
            """Never called."""

    lamp = Lamp()
    reference = weakref.ref(lamp)
    cancel = scheduler.every(3600, lamp.tick, name="tick")
    del lamp
    assert reference() is not None
    cancel()
    assert reference() is None


# -- threads -----------------------------------------------------------------------------------------------------------


def test_a_thread_runs_until_its_token_is_set(scheduler: Scheduler) -> None:
    """Releasing sets the token and joins, so that nothing of the thread runs afterwards."""
    started, order = threading.Event(), list[str]()

    def pump(stop: StopToken) -> None:
        order.append(threading.current_thread().name)
        started.set()
        stop.wait(PATIENCE)
        order.append("told to stop" if stop.is_set() else "ran out of patience")

    release = scheduler.spawn(pump, name="lamp.pump")
    assert seen(started)
    assert scheduler.statistics() == ScheduleStatistics(timers=0, threads=1, calls=0, failures=0)
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "test-lamp.pump"]
    assert scheduler.thread_idents() == {thread.ident}
    assert thread.daemon
    release()
    assert not thread.is_alive()
    assert order == ["test-lamp.pump", "told to stop"]
    release()
    assert scheduler.statistics() == ScheduleStatistics(timers=0, threads=0, calls=1, failures=0)


@pytest.mark.parametrize("error", [ValueError("stuck"), SystemExit("stuck")], ids=["error", "exit"])
def test_what_a_thread_raises_is_logged_and_counted(
    scheduler: Scheduler, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    """An exception ends its thread, as text in the log, and nothing else."""

    def pump(stop: StopToken) -> None:
        raise error

    release = scheduler.spawn(pump, name="lamp.pump")
    release()
    assert scheduler.statistics() == ScheduleStatistics(timers=0, threads=0, calls=1, failures=1)
    (record,) = caplog.records
    assert record.getMessage().startswith("lamp.pump raised:\nTraceback")
    assert record.getMessage().endswith(f"{type(error).__name__}: stuck\n")


def test_a_thread_that_ignores_its_token_is_named_with_its_stack() -> None:
    """Releasing gives up at the deadline, and says which thread does not end and at which line it is."""
    scheduler, started, leave = Scheduler("stubborn", join_seconds=0.05), threading.Event(), threading.Event()

    def pump(stop: StopToken) -> None:
        started.set()
        leave.wait(PATIENCE)

    release = scheduler.spawn(pump, name="lamp.pump")
    assert seen(started)
    with pytest.raises(TaskStillRunning) as caught:
        release()
    text = str(caught.value)
    assert scheduler.statistics().threads == 1
    leave.set()
    release()
    assert text.startswith("thread 'stubborn-lamp.pump' did not stop in time; it is at\n")
    assert "in pump" in text
    assert "leave.wait(PATIENCE)" in text
    assert scheduler.statistics().threads == 0


def test_an_error_about_a_thread_holds_nothing_of_it() -> None:
    """The error is text: with it at hand the function of the thread can die."""
    scheduler, leave = Scheduler("stubborn", join_seconds=0.01), threading.Event()

    class Pump:
        def run(self, stop: StopToken) -> None:
            leave.wait(PATIENCE)

    pump = Pump()
    reference = weakref.ref(pump)
    release = scheduler.spawn(pump.run, name="pump")
    del pump
    with pytest.raises(TaskStillRunning) as caught:
        release()
    leave.set()
    release()
    assert reference() is None
    assert caught.value.args == (str(caught.value),)


def test_a_thread_may_release_itself(scheduler: Scheduler) -> None:
    """A task that gives its own lease back is told to stop, and does not wait for itself."""
    ready, done = threading.Event(), threading.Event()

    def pump(stop: StopToken) -> None:
        ready.wait(PATIENCE)
        release()
        assert stop.is_set()
        done.set()

    release = scheduler.spawn(pump, name="pump")
    ready.set()
    assert seen(done)


def test_a_finished_thread_is_not_held(scheduler: Scheduler) -> None:
    """When release has returned nobody refers to the function, also if it raised."""

    class Lamp:
        def run(self, stop: StopToken) -> None:
            raise ValueError("stuck")

    gc.collect()
    gc.disable()
    try:
        lamp = Lamp()
        reference = weakref.ref(lamp)
        release = scheduler.spawn(lamp.run, name="lamp")
        del lamp
        release()
        assert reference() is None
    finally:
        gc.enable()


def test_a_thread_that_the_system_refuses_is_on_no_books(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started that is an error to who asked, and the next one who asks is served."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            scheduler.spawn(lambda stop: None, name="pump")
        with pytest.raises(RuntimeError, match="can't start"):
            scheduler.every(0.001, lambda: None, name="tick")
    assert scheduler.statistics() == ScheduleStatistics(timers=0, threads=0, calls=0, failures=0)
    called = threading.Event()
    cancel = scheduler.every(0.001, called.set, name="tick")
    assert seen(called)
    cancel()


def test_fifty_timers_and_threads_leave_nothing(scheduler: Scheduler) -> None:
    """After warming up, rounds of timers and threads that were called and ended leave as many objects as there were."""

    def come_and_go() -> None:
        called = threading.Event()
        cancel = scheduler.every(0.0001, called.set, name="tick")
        release = scheduler.spawn(lambda stop: stop.wait(PATIENCE), name="pump")
        assert seen(called)
        cancel()
        release()

    keep = scheduler.every(1000, lambda: None, name="keeps the thread alive")
    come_and_go()
    gc.collect()
    threads, objects = threading.active_count(), len(gc.get_objects())
    for _ in range(50):
        come_and_go()
    gc.collect()
    assert threading.active_count() == threads
    grown = len(gc.get_objects()) - objects
    assert grown < 20 or sys.gettrace() is not None  # a tracer keeps books on every thread
    keep()
