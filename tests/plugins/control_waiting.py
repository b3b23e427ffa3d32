"""It keeps all that it made for itself: futures, generators, exceptions, contexts, timers that were cancelled."""

from __future__ import annotations

import atexit
import contextvars
import threading
import weakref
from collections.abc import Generator
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any

TIE = ()


class Thing:
    """Of the plugin."""


def call(*arguments: object) -> None:
    """Do nothing."""


def count() -> Generator[int, None, None]:
    """Two numbers."""
    yield 1
    yield 2


local = threading.local()
local.thing = Thing()
future: Any = Future()
future.add_done_callback(call)
generator: Any = count()
next(generator)
context = contextvars.Context()
variable: ContextVar[object] = ContextVar("variable")
context.run(variable.set, Thing())
thing = Thing()
reference = weakref.ref(thing, call)
finalizer = weakref.finalize(thing, print)
finalizer.atexit = False
timer = threading.Timer(3600, call)
atexit.register(call)
atexit.unregister(call)
try:
    raise ValueError
except ValueError as caught:
    error = caught


def intact() -> object:
    """Whether this copy's things are still there."""
    return [type(local.thing) is Thing, len(future._done_callbacks), generator.gi_frame is not None, finalizer.alive]
