"""Threads, timers and executors that have a plugin's callbacks."""

from __future__ import annotations

import gc
import operator
import sys
import threading
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import filterfalse
from typing import Any, Final

from ..belongings import Belongings
from ..holders import strangers
from ..names import defined_in, name_of, namespace_of, short
from .interpreter import unhooked
from .tie import Hold, Tie

_JOIN_SECONDS: Final = 1.0


class ThreadHook(Tie):
    """``threading.excepthook`` is one slot for the whole process."""

    name = "threading.excepthook"
    sentence = "the plugin replaced threading.excepthook and did not put the former hook back"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """The hook or one that it wraps: https://docs.python.org/3/library/threading.html#threading.excepthook."""
        put = partial(setattr, threading, "excepthook")
        default = threading.__excepthook__
        yield from unhooked("threading.excepthook", threading.excepthook, default, put, belongings)


class ThreadLocals(Tie):
    """A ``threading.local`` of somebody else's, in which a thread left an object of the plugin's."""

    name = "threading.local"
    sentence = "somebody else's threading.local has a value of the plugin's; the attribute is deleted in that thread"
    kinds = (threading.local,)

    def wanted(self) -> Iterable[type]:
        """Subclasses as well: asyncio keeps the loop of a thread in one."""
        return subclasses(threading.local)

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An attribute in one thread each, for all threads alive."""
        found = [
            (local, values, name)
            for kind in self.wanted()
            for local in belongings.heap.get(kind, ())
            if local not in belongings
            for values in _dictionaries(local)
            for name, value in list(values.items())
            if value in belongings
        ]
        where = strangers(found, belongings)
        for local, values, name in found:
            if id(local) in where:
                place = f"{where[id(local)]}.{name}"
                yield Hold(place=place, held=name_of(values[name]), cut=partial(values.pop, name, None))


def _dictionaries(local: Any) -> Iterator[dict[str, Any]]:
    """One for each thread: https://github.com/python/cpython/blob/3.13/Modules/_threadmodule.c (struct localobject)."""
    for table in gc.get_referents(local):
        if type(table) is dict:
            yield from (one for one in list(table.values()) if type(one) is dict)


class ThreadExits(Tie):
    """Callbacks that ``threading`` calls before it joins the last threads."""

    name = "threading exit"
    sentence = "threading was told to call the plugin at exit; the callback is taken out and not called"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry each: https://github.com/python/cpython/blob/3.11/Lib/threading.py (_register_atexit)."""
        entries: list[Any] = vars(threading).get("_threading_atexits", [])
        for index, entry in enumerate(list(entries)):
            if entry in belongings:
                place = f"threading._threading_atexits[{index}]"
                yield Hold(place=place, held=name_of(entry), cut=partial(take_out, entries, entry))


class Timers(Tie):
    """A ``threading.Timer`` that waits to call the plugin."""

    name = "timer"
    sentence = "a threading.Timer waits to call the plugin; it is cancelled"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """A running timer each."""
        for thread in threading.enumerate():
            if not issubclass(type(thread), threading.Timer):
                continue
            waits = namespace_of(thread)
            parts = (waits.get("function"), *waits.get("args", ()), *waits.get("kwargs", {}).values())
            if thread in belongings or any(part in belongings for part in parts):
                place = f"threading.Timer {short(waits.get('_name'))}"
                yield Hold(place=place, held=name_of(parts[0]), cut=partial(_cancel_timer, waits, thread))


def _cancel_timer(waits: dict[str, Any], thread: threading.Thread) -> None:
    # as Timer.cancel does it; a subclass may have another one
    waits["finished"].set()
    if thread is not threading.current_thread():
        threading.Thread.join(thread, _JOIN_SECONDS)


class QueuedWork(Tie):
    """Calls of the plugin that an executor has not begun."""

    name = "executor"
    sentence = "an executor of somebody else's has calls of the plugin in its queue; they are cancelled"

    def wanted(self) -> Iterable[type]:
        """Threads and processes have one class each."""
        for module in ("concurrent.futures.thread", "concurrent.futures.process"):
            yield from loaded(module, "_WorkItem")

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """A waiting call each: https://github.com/python/cpython/blob/3.11/Lib/concurrent/futures/thread.py."""
        found = []
        for kind in self.wanted():
            for item in belongings.heap.get(kind, ()):
                space = namespace_of(item)
                if any(part in belongings for part in _parts(space)):
                    found.append((item, space))
        where = strangers(found, belongings)
        for item, space in found:
            if id(item) in where:
                yield Hold(
                    place=f"{where[id(item)]}, waiting to run",
                    held=name_of(next(part for part in _parts(space) if part in belongings)),
                    cut=partial(_cancel_work, space),
                )


def _parts(space: dict[str, Any]) -> Iterator[Any]:
    yield space.get("fn")
    for values in (space.get("args"), space.get("task"), space.get("kwargs")):
        if type(values) is dict:
            yield from values.values()
        elif type(values) is tuple:  # from Python 3.14 on the three of them are one
            yield from values


def _cancel_work(space: dict[str, Any]) -> None:
    if not space["future"].cancel():
        raise RuntimeError("the call has begun")
    # the worker looks at the future first, and calls nothing that was cancelled
    space.update({name: value for name, value in _EMPTY.items() if name in space})


_EMPTY: Final[dict[str, Any]] = {"fn": None, "args": (), "kwargs": {}, "task": None}


class FutureCallbacks(Tie):
    """Futures of somebody else's that will call the plugin when they are done."""

    name = "future callback"
    sentence = "a future of somebody else's was told to call the plugin when it is done; the callback is removed"

    def wanted(self) -> Iterable[type]:
        """The futures of ``concurrent.futures`` and of asyncio, tasks among them."""
        yield from loaded("concurrent.futures._base", "Future")
        for module, name in _FUTURES:
            yield from loaded(module, name)

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """A callback each."""
        found = [
            (future, callback)
            for kind in self.wanted()
            for future in belongings.heap.get(kind, ())
            if future not in belongings
            for callback in _callbacks(future)
            if callback in belongings
        ]
        where = strangers(found, belongings)
        for future, callback in found:
            if id(future) in where:
                place = f"a callback of the future {where[id(future)]}"
                yield Hold(place=place, held=name_of(callback), cut=partial(_remove_callback, future, callback))


_FUTURES: Final = (
    ("_asyncio", "Future"),
    ("_asyncio", "Task"),
    ("asyncio.futures", "_PyFuture"),
    ("asyncio.tasks", "_PyTask"),
)


def _callbacks(future: Any) -> list[Any]:
    if defined_in(type(future)) == "concurrent.futures._base":
        return list(namespace_of(future).get("_done_callbacks", ()))
    return [callback for callback, _ in future._callbacks or ()]


def _remove_callback(future: Any, callback: Any) -> None:
    if defined_in(type(future)) == "concurrent.futures._base":
        take_out(namespace_of(future)["_done_callbacks"], callback)
    else:
        future.remove_done_callback(callback)


def loaded(module: str, *names: str) -> Iterator[type]:
    """Classes of a module, if somebody has imported it."""
    space = namespace_of(sys.modules.get(module))
    yield from (one for name in names if type(one := space.get(name)) is type)


def subclasses(base: type) -> list[type]:
    """A class and everything below it that is an ordinary class, so that it can be hashed."""
    found: list[type] = [base]
    for cls in found:
        below: list[type] = type.__subclasses__(cls)
        found.extend(sub for sub in below if type(sub) is type)
    return list(dict.fromkeys(found))


def take_out(entries: list[Any], entry: object) -> None:
    """Take an entry out of a list that other threads change, too: by identity, never by ``==``.

    All of it is one instruction without any Python inside: what others put in meanwhile would be lost otherwise.
    """
    list.__setitem__(entries, slice(None), filterfalse(partial(operator.is_, entry), list.__iter__(entries)))
