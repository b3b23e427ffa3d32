"""Signals that come while a module runs which calls back into Python.

Python runs the handlers of signals in the main thread, between two steps of whatever runs there. When a module calls a
host function the first such step is the entry of a function that C has called, before any of its ``try``. An exception
that is raised there has nobody to go to: ctypes prints it, and hands whatever lies in the register to the engine as
the result, for which it frees memory that it does not own. With wasmtime-py 50.0.1 alone the process ended with a
segmentation fault within six such signals, in five runs of five. So the handlers wait: for the next host function,
which runs them where an exception ends the call, or for the end of the call.

For the same reason nothing is called that could call back without room on Python's stack.
"""

from __future__ import annotations

import importlib
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

# Those whose handlers people let raise. SIGALRM and the others are not there on Windows.
_SIGNALS: Final = tuple(
    int(number)
    for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if (number := getattr(signal, name, None)) is not None
)
# The way to a host function and back takes eight, those of ctypes with it.
_FRAMES: Final = 16
# What the module signal wraps; its wrappers look every number up in an enumeration, which is most of a call's time.
# https://github.com/python/cpython/blob/3.11/Lib/signal.py
_RAW: Final[Any] = importlib.import_module("_signal")


class Deferral:
    """Stands in for the handlers of signals until `end`."""

    def __init__(self, handlers: dict[int, Callable[[int, FrameType | None], Any]]) -> None:
        self._handlers = handlers
        self._pending: list[int] = []

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """A signal has come."""
        self._pending.append(number)

    def deliver(self) -> None:
        """Run the handlers of those that have come, here.

        :raises BaseException: what a handler raises.
        """
        while self._pending:
            number = self._pending.pop(0)
            self._handlers[number](number, None)

    def end(self) -> None:
        """Put the handlers back, but for those that were set meanwhile, and run what is pending.

        :raises BaseException: what a handler raises.
        """
        raised: BaseException | None = None
        for number, handler in self._handlers.items():
            try:
                if _RAW.getsignal(number) is self:
                    _RAW.signal(number, handler)
            except BaseException as error:  # of one that is back already: the others have to come back as well
                raised = error
        if raised is not None:
            try:
                raise raised
            finally:
                del raised
        self.deliver()


def defer() -> Deferral | None:
    """Have the handlers wait; None where there is nothing to do: in other threads, and without handlers in Python."""
    if threading.get_ident() != threading.main_thread().ident:
        return None
    handlers = {}
    for number in _SIGNALS:
        handler = _RAW.getsignal(number)
        # numbers stand for what the system does by itself; a deferral is that of another program's call outside of ours
        if handler.__class__ is not int and callable(handler) and not isinstance(handler, Deferral):
            handlers[number] = handler
    if not handlers:
        return None
    deferral = Deferral(handlers)
    try:
        for number in handlers:
            _RAW.signal(number, deferral)
    except ValueError:  # not the main interpreter, whose thread alone gets signals
        return None
    except BaseException:  # of one that does not wait yet
        deferral.end()
        raise
    return deferral


def ensure_room(frames: int = _FRAMES) -> None:
    """Whether so many more calls fit on Python's stack.

    :raises RecursionError: if not.
    """
    if frames:
        ensure_room(frames - 1)
