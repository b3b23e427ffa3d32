"""Supervised work: timers on one thread, and threads that are told to stop and are joined."""

from __future__ import annotations

import heapq
import itertools
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Final

import attrs
from weighbridge_hookspecs import StopToken

_log: Final = logging.getLogger("weighbridge.schedule")


@attrs.frozen(kw_only=True)
class ScheduleStatistics:
    """What a scheduler runs now, and what its calls came to so far."""

    timers: int
    threads: int
    calls: int
    failures: int


@attrs.define(eq=False)
class _Timer:
    name: str
    seconds: float
    call: Callable[[], object] | None
    idle: threading.Event = attrs.field(factory=threading.Event)

    def __attrs_post_init__(self) -> None:
        self.idle.set()


class TaskStillRunning(RuntimeError):
    """A task did not end by its deadline. The text has its stack; the task is not held."""


class Scheduler:
    """Timers and supervised threads. One timer thread, there only while there are timers."""

    def __init__(self, name: str = "weighbridge", *, join_seconds: float = 5.0) -> None:
        self.name: Final = name
        self.join_seconds: Final = join_seconds
        self._due: list[tuple[float, int, _Timer]] = []
        self._sequence = itertools.count()
        self._changed = threading.Condition()
        self._clock: threading.Thread | None = None
        self._threads: set[threading.Thread] = set()
        self._timers: set[_Timer] = set()
        self._calls = 0
        self._failures = 0

    def every(self, seconds: float, call: Callable[[], object], *, name: str) -> Callable[[], None]:
        """Call `call` every `seconds` until the function returned is called; that one waits for a call under way.

        The next call is due `seconds` after the last one ended, so a slow call never piles up others.

        :raises ValueError: if `seconds` is not above 0.
        """
        if not seconds > 0:
            raise ValueError(f"every {seconds!r} seconds: the interval has to be above 0")
        timer = _Timer(name, seconds, call)
        with self._changed:
            if self._clock is None:
                clock = threading.Thread(target=self._tick, name=f"{self.name}-timers", daemon=True)
                clock.start()  # raises where the system gives no more threads; the next one to come tries again
                self._clock = clock
            self._timers.add(timer)
            self._push(timer)
            self._changed.notify()
        return lambda: self._cancel(timer)

    def spawn(self, run: Callable[[StopToken], object], *, name: str) -> Callable[[], None]:
        """Run `run` in a thread of its own until the function returned is called; that one joins the thread."""
        stop = threading.Event()
        thread = threading.Thread(
            target=self._supervise, args=(run, stop, name), name=f"{self.name}-{name}", daemon=True
        )
        with self._changed:
            thread.start()
            self._threads.add(thread)
        return lambda: self._stop(thread, stop)

    def thread_idents(self) -> frozenset[int]:
        """Identifiers of the threads that this scheduler supervises, the timers' one among them."""
        with self._changed:
            threads = {*self._threads, *([self._clock] if self._clock else [])}
        return frozenset(thread.ident for thread in threads if thread.ident is not None)

    def statistics(self) -> ScheduleStatistics:
        """What runs now."""
        with self._changed:
            return ScheduleStatistics(
                timers=len(self._timers), threads=len(self._threads), calls=self._calls, failures=self._failures
            )

    def _push(self, timer: _Timer) -> None:
        heapq.heappush(self._due, (time.monotonic() + timer.seconds, next(self._sequence), timer))

    def _tick(self) -> None:
        while (timer := self._next()) is not None:
            self._run_timer(timer)
            del timer

    def _next(self) -> _Timer | None:
        """Wait for the next timer that is due; None once there are no timers."""
        with self._changed:
            while self._due:
                wait = self._due[0][0] - time.monotonic()
                if wait > 0:
                    self._changed.wait(min(wait, threading.TIMEOUT_MAX))
                    continue
                timer = heapq.heappop(self._due)[2]
                if timer.call is not None:
                    timer.idle.clear()
                    return timer
            self._clock = None
            return None

    def _run_timer(self, timer: _Timer) -> None:
        try:
            self._guard(timer.call or (lambda: None), timer.name)
        finally:
            with self._changed:
                timer.idle.set()
                if timer.call is not None:
                    self._push(timer)

    def _cancel(self, timer: _Timer) -> None:
        timer.call = None
        with self._changed:
            self._due = [entry for entry in self._due if entry[2] is not timer]
            heapq.heapify(self._due)
            self._timers.discard(timer)
            self._changed.notify()
            clock = self._clock
        if clock is not threading.current_thread() and not timer.idle.wait(self.join_seconds):
            raise still_running(f"timer {timer.name!r}", clock)

    def _supervise(self, run: Callable[[StopToken], object], stop: threading.Event, name: str) -> None:
        try:
            self._guard(lambda: run(stop), name)
        finally:
            with self._changed:
                self._threads.discard(threading.current_thread())

    def _stop(self, thread: threading.Thread, stop: threading.Event) -> None:
        stop.set()
        if thread is threading.current_thread():
            return
        thread.join(self.join_seconds)
        if thread.is_alive():
            raise still_running(f"thread {thread.name!r}", thread)

    def _guard(self, call: Callable[[], object], name: str) -> None:
        """Call, count, and log what is raised as text: an exception object would keep its frames alive.

        Nothing passes, not even a ``sys.exit``: all timers share one thread, and Ctrl-C goes to the main thread.
        """
        failure = ""
        try:
            call()
        except BaseException:
            failure = traceback.format_exc()
        with self._changed:
            self._calls += 1
            self._failures += bool(failure)
        if failure:
            _log.error("%s raised:\n%s", name, failure)


def still_running(what: str, thread: threading.Thread | None) -> TaskStillRunning:
    """The error that says where a thread is now; `what` begins its text."""
    frame = sys._current_frames().get(thread.ident or 0) if thread is not None else None
    stack = "".join(traceback.format_stack(frame)) if frame is not None else "  (no Python frame)\n"
    return TaskStillRunning(f"{what} did not stop in time; it is at\n{stack}")
