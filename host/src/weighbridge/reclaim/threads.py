"""Threads that a plugin started by itself, without its host."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Collection, Iterator
from types import FrameType


def stray_threads(namespaces: Collection[int], *, leased: Collection[int]) -> list[threading.Thread]:
    """Running threads that began in one of `namespaces`, leaving out those that the host supervises."""
    frames = sys._current_frames()
    return [
        thread
        for thread in threading.enumerate()
        if thread.ident in frames and thread.ident not in leased and began_in(frames[thread.ident], namespaces)
    ]


def began_in(frame: FrameType, namespaces: Collection[int]) -> bool:
    """Whether the outermost frame of a stack, but for ``threading``'s own, has one of `namespaces`."""
    began = None
    for step in stack(frame):
        if step.f_globals.get("__name__") != "threading":
            began = id(step.f_globals)
    return began in namespaces


def stack(frame: FrameType) -> Iterator[FrameType]:
    """From the innermost frame outwards."""
    step: FrameType | None = frame
    while step is not None:
        yield step
        step = step.f_back


def stop_threads(threads: Collection[threading.Thread], *, seconds: float) -> list[str]:
    """Wait for threads to end, then raise SystemExit in those that do not; the names of those still running.

    A thread that is blocked in C sees the exception only when it comes back.
    https://docs.python.org/3/c-api/init.html#c.PyThreadState_SetAsyncExc
    """
    deadline = time.monotonic() + seconds
    _join(threads, time.monotonic() + seconds / 4)
    for thread in threads if _can_raise() else ():
        if thread.is_alive() and thread.ident is not None:
            import ctypes

            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
    _join(threads, deadline)
    return [thread.name for thread in threads if thread.is_alive()]


def _can_raise() -> bool:
    """Python 3.11 under a tracer never gets on while an exception is pending for a thread that is blocked in C."""
    return sys.version_info >= (3, 12) or not (sys.gettrace() or sys.getprofile())


def _join(threads: Collection[threading.Thread], deadline: float) -> None:
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
