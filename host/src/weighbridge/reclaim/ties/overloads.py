"""What ``typing`` remembers of the code that it annotates."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from functools import partial
from types import CodeType, FunctionType
from typing import Any, Final

from ..belongings import Belongings
from ..names import name_of
from .tie import Hold, Tie


class Overloads(Tie):
    """``typing.overload`` keeps every overload for ``typing.get_overloads``."""

    name = "typing overload"
    sentence = "typing.overload registers each overload for typing.get_overloads and never forgets it"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry for each module: https://docs.python.org/3/library/typing.html#typing.get_overloads."""
        registry: dict[str, object] = vars(typing).get("_overload_registry", {})
        for name in belongings.names & registry.keys():
            place = f"typing._overload_registry[{name!r}]"
            yield Hold(place=place, held=name, cut=partial(registry.pop, name, None))


class TypingCaches(Tie):
    """``typing`` lists functions that empty the caches of its generic classes; typing_extensions adds to it."""

    name = "typing cache"
    sentence = (
        "typing keeps a list of functions that empty caches, and a library such as typing_extensions added its own"
    )
    kinds = (FunctionType,)

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """Entries of ``typing._cleanups`` that empty a cache of the plugin's, and since Python 3.12 the cache itself.

        https://github.com/python/cpython/blob/v3.12.1/Lib/typing.py (``_tp_cache``)
        """
        cleanups: list[object] = vars(typing).get("_cleanups", [])
        for place, cleanup in enumerate(cleanups):
            if cleanup in belongings:
                held = name_of(getattr(cleanup, "__self__", cleanup))
                yield Hold(place=f"typing._cleanups[{place}]", held=held, cut=partial(cleanups.remove, cleanup))
        caches: dict[Any, object] = vars(typing).get("_caches", {})
        for function in [function for function in list(caches) if function in belongings]:
            held, users = name_of(function), list(_users(function, belongings))
            yield Hold(place=f"typing._caches[{held}]", held=held, cut=partial(_forget, caches, function, users))


def _users(cached: object, belongings: Belongings) -> Iterator[FunctionType]:
    """Functions of typing's own code that look up the cache of `cached` at each call, as a rule one."""
    for one in belongings.heap[FunctionType]:
        code, cells = one.__code__, one.__closure__
        if one.__globals__ is not vars(typing) or "_caches" not in code.co_names or cells is None:
            continue
        if code.co_freevars == _UNCACHED.co_freevars and cells[0].cell_contents is cached:
            yield one


def _forget(caches: dict[Any, object], function: object, users: list[FunctionType]) -> None:
    for user in users:  # whoever still has one of these can go on calling it: it only remembers nothing any more
        user.__code__ = _UNCACHED
    caches.pop(function, None)


def _passing_on(func: Any) -> CodeType:
    def inner(*args: Any, **kwds: Any) -> Any:
        return func(*args, **kwds)

    return inner.__code__


_UNCACHED: Final = _passing_on(None)
"""Code that calls what stands in its only free variable, which has the name that it has in typing."""
