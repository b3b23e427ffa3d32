"""Threads that a plugin started by itself: who they are, and how they end."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from types import ModuleType

import pytest

from weighbridge.reclaim.threads import began_in, stack, stop_threads, stray_threads
from weighbridge.reclaim.watch import namespaces

# Python itself passes over a SystemExit that ends a thread; pytest's hook does not, and warns of it.
stops_threads = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
raises = pytest.mark.skipif(
    sys.version_info < (3, 12) and bool(sys.gettrace()), reason="Python 3.11 would hang under a tracer"
)
SOURCE = """
import os
import threading

def spin(entered):
    entered.set()
    while True:
        pass

def wait(entered, leave):
    entered.set()
    leave.wait()

def block(entered, pipe):
    entered.set()
    os.read(pipe, 1)
    spin(entered)

def refuse(entered, leave):
    while not leave.is_set():
        try:
            entered.set()
            leave.wait()
        except SystemExit:
            pass

class Worker(threading.Thread):
    def __init__(self, entered, leave):
        super().__init__(name="worker")
        self.entered, self.leave = entered, leave

    def run(self):
        wait(self.entered, self.leave)
"""


@pytest.fixture
def lamp() -> Iterator[ModuleType]:
    """A plugin's module, of which no thread may be left at the end."""
    module = ModuleType("lamp_with_threads")
    exec(compile(SOURCE, "/plugins/lamp.py", "exec"), vars(module))
    sys.modules[module.__name__] = module
    before = set(threading.enumerate())
    yield module
    del sys.modules[module.__name__]
    assert set(threading.enumerate()) <= before


def strays(module: ModuleType, *, leased: tuple[int, ...] = ()) -> list[str]:
    return sorted(thread.name for thread in stray_threads(namespaces([module.__name__]), leased=leased))


def started(name: str, target: object, *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=arguments, name=name)  # type: ignore[arg-type]
    thread.start()
    return thread


# -- who they are ------------------------------------------------------------------------------------------------------


def test_a_thread_belongs_to_whose_code_it_began_in(lamp: ModuleType) -> None:
    """A target of the plugin's, a Thread class of its own and a timer that has fired are strays; others are not."""
    leave, events = threading.Event(), [threading.Event() for _ in range(4)]
    timer = threading.Timer(0, lamp.wait, (events[2], leave))
    timer.name = "timer"
    threads = [
        started("target", lamp.wait, events[0], leave),
        lamp.Worker(events[1], leave),
        timer,
        started("application", lambda: lamp.wait(events[3], leave)),
    ]
    for thread in threads[1:3]:
        thread.start()
    for event in events:
        event.wait()
    found = strays(lamp)
    without = strays(lamp, leased=(threads[0].ident or 0,))
    leave.set()
    for thread in threads:
        thread.join()
    assert found == ["target", "timer", "worker"]
    assert without == ["timer", "worker"]
    assert strays(lamp) == []


def test_a_stack_goes_outwards(lamp: ModuleType) -> None:
    """The innermost frame comes first, and the outermost but for threading's own says where it began."""

    def inner() -> list[str]:
        return [frame.f_code.co_name for frame in stack(sys._getframe())]

    assert inner()[:2] == ["inner", "test_a_stack_goes_outwards"]
    assert not began_in(sys._getframe(), namespaces([lamp.__name__]))


# -- how they end ------------------------------------------------------------------------------------------------------


@raises
@stops_threads
def test_a_loop_in_python_is_stopped(lamp: ModuleType) -> None:
    """A thread that never looks at anything is ended between two of its instructions."""
    entered = threading.Event()
    thread = started("loop", lamp.spin, entered)
    entered.wait()
    assert stop_threads([thread], seconds=2) == []
    assert not thread.is_alive()


@raises
@stops_threads
def test_a_thread_that_is_blocked_in_c_is_named(lamp: ModuleType) -> None:
    """It cannot be ended from outside, which is said; it ends as soon as it is back in Python."""
    entered = threading.Event()
    reading, writing = os.pipe()
    thread = started("reader", lamp.block, entered, reading)
    entered.wait()
    assert stop_threads([thread], seconds=0.04) == ["reader"]
    assert thread.is_alive()
    os.write(writing, b"x")
    thread.join()
    os.close(reading)
    os.close(writing)


@raises
@stops_threads
def test_a_thread_that_does_not_want_to_end_is_named(lamp: ModuleType) -> None:
    """One that catches even SystemExit goes on, and does not keep the others from being stopped."""
    entered, other, leave = threading.Event(), threading.Event(), threading.Event()
    stubborn = started("stubborn", lamp.refuse, entered, leave)
    loop = started("loop", lamp.spin, other)
    entered.wait()
    other.wait()
    assert stop_threads([stubborn, loop], seconds=0.5) == ["stubborn"]
    leave.set()
    stubborn.join()


def test_a_thread_that_ends_by_itself_is_left_to(lamp: ModuleType) -> None:
    """A part of the time is for those that are ending anyway: nothing is raised in them."""
    ended, leave = list[str](), threading.Event()

    def end() -> None:
        leave.wait()
        ended.append("in peace")

    thread = started("ending", end)
    opener = started("opener", leave.set)
    assert stop_threads([thread, opener], seconds=60) == []
    assert ended == ["in peace"]


def test_there_may_be_nobody_to_stop() -> None:
    """No threads, or only such that have ended, take no time and are no failure."""
    thread = started("ended", lambda: None)
    thread.join()
    assert stop_threads([], seconds=60) == []
    assert stop_threads([thread], seconds=60) == []
