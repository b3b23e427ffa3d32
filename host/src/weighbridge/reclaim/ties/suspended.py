"""Code of a plugin that stopped half way: in a generator, in a coroutine, in the traceback of an exception."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from types import AsyncGeneratorType, TracebackType
from typing import Any

from ..belongings import Belongings
from ..holders import strangers
from ..names import SUSPENDED, name_of
from .running import loaded, subclasses
from .tie import Hold, Tie


class Tracebacks(Tie):
    """An exception that somebody kept: its traceback has the frames of everybody that it came through."""

    name = "traceback"
    sentence = (
        "somebody keeps an exception that came through the plugin; its traceback is cut off where the plugin begins"
    )
    kinds = ()

    def wanted(self) -> Iterable[type]:
        """Every class of exceptions."""
        return subclasses(BaseException)

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An exception each.

        All from the plugin's frame inwards is cut off, not that frame alone: what the plugin called refers back to it
        (https://docs.python.org/3/reference/datamodel.html#frame.f_back). What the exception says stays.
        """
        found = [
            (error,)
            for kind, errors in list(belongings.heap.items())
            if issubclass(kind, BaseException)
            for error in errors
            if any(_is_theirs(step, belongings) for step in _steps(error))
        ]
        where = strangers(found, belongings)
        for (error,) in found:
            if id(error) in where:
                place = f"{where[id(error)]}.__traceback__"
                yield Hold(place=place, held=name_of(error), cut=partial(_shorten, error, belongings))


def _steps(error: BaseException) -> Iterator[TracebackType]:
    step = BaseException.__dict__["__traceback__"].__get__(error)
    while step is not None:
        yield step
        step = step.tb_next


def _is_theirs(step: TracebackType, belongings: Belongings) -> bool:
    return id(step.tb_frame.f_globals) in belongings.spaces


def _shorten(error: BaseException, belongings: Belongings) -> None:
    last = None
    for step in _steps(error):
        if _is_theirs(step, belongings):
            break
        last = step
    if last is None:
        BaseException.__dict__["__traceback__"].__set__(error, None)
    else:
        last.tb_next = None
    for step in _steps(error):
        # the loop of a hook call has the plugin's implementation in a local variable
        if str(step.tb_frame.f_globals.get("__name__")).partition(".")[0] == "pluggy":
            with suppress(RuntimeError):  # it is still running
                step.tb_frame.clear()


class Suspended(Tie):
    """A generator or coroutine of the plugin's that somebody else keeps, and that has not come to its end."""

    name = "suspended"
    sentence = "somebody keeps a generator or coroutine of the plugin's that has not ended; it is closed"
    kinds = tuple(SUSPENDED)

    def wanted(self) -> Iterable[type]:
        """Tasks as well: whose coroutine it is has a tie of its own."""
        yield from (*self.kinds, *loaded("_asyncio", "Task"), *loaded("asyncio.tasks", "_PyTask"))

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """One each. Closing runs what the plugin wrote in ``finally``."""
        tasks = [task for kind in self.wanted() if kind not in SUSPENDED for task in belongings.heap.get(kind, ())]
        of_tasks = {id(task.get_coro()) for task in tasks}
        found = [
            (one,)
            for kind, frame in SUSPENDED.items()
            for one in belongings.heap.get(kind, ())
            if id(one) not in of_tasks
            and (at := getattr(one, frame)) is not None
            and id(at.f_globals) in belongings.spaces
        ]
        where = strangers(found, belongings)
        for (one,) in found:
            if id(one) in where:
                running = getattr(one, SUSPENDED[type(one)].replace("frame", "running"))
                cut = None if running else partial(finish, one)
                yield Hold(place=where[id(one)], held=name_of(one), cut=cut, note=_RUNNING if running else "")


_RUNNING = "it is running, so it cannot be closed"


def finish(one: Any) -> None:
    """End a generator, coroutine or asynchronous generator, as closing does it.

    Not by ``close``, which since Python 3.12 leaves the frame of one that has not begun as it is
    (https://github.com/python/cpython/blob/3.12/Objects/genobject.c, gen_close).

    :raises RuntimeError: if it goes on instead.
    """
    ending = one.aclose() if type(one) is AsyncGeneratorType else one
    try:
        if ending is one:
            one.throw(GeneratorExit())
        else:
            ending.send(None)
            ending.close()
    except (Exception, GeneratorExit):
        if getattr(one, SUSPENDED[type(one)]) is None:
            return  # it has ended, whatever it raised
    raise RuntimeError("it goes on")
