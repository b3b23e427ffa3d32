"""What runs when the process forks."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from functools import cache, partial
from typing import Any, Final

from ..belongings import Belongings
from ..names import name_of
from .exits import multiprocessing_util
from .running import take_out
from .tie import Hold, Tie


class ForkHooks(Tie):
    """``os.register_at_fork`` has no way back but the lists that the interpreter keeps."""

    name = "os.register_at_fork"
    sentence = "the plugin asked to be called at every fork, and os has no function to take that back"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry each, in the three lists."""
        for when, entries in _lists().items():
            for index, entry in enumerate(list(entries)):
                if entry in belongings:
                    place = f"os.register_at_fork({when}=...), callback {index + 1}"
                    yield Hold(place=place, held=name_of(entry), cut=partial(take_out, entries, entry))


@cache
def _lists() -> dict[str, list[Any]]:
    """The interpreter's own lists, which no name leads to: a mark that is registered, and taken out again, finds them.

    They are ordinary lists until the interpreter ends, and a fork walks through a copy of each.
    https://github.com/python/cpython/blob/3.11/Modules/posixmodule.c (run_at_forkers)
    """
    if not hasattr(os, "register_at_fork"):
        return {}
    return {when: found for when in _WHEN if (found := _list(when)) is not None}


_WHEN: Final = ("before", "after_in_parent", "after_in_child")


def _list(when: str) -> list[Any] | None:
    def mark() -> None:
        """Stands in the list for a moment."""

    os.register_at_fork(**{when: mark})
    found: list[Any] | None = next((one for one in gc.get_referrers(mark) if type(one) is list), None)
    if found is not None:
        take_out(found, mark)
    return found


class ProcessForks(Tie):
    """``multiprocessing.util.register_after_fork`` keeps the function as long as the object lives."""

    name = "multiprocessing after fork"
    sentence = "multiprocessing would call the plugin in every child process; the entry is removed"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry each: https://github.com/python/cpython/blob/3.11/Lib/multiprocessing/util.py."""
        registry = multiprocessing_util().get("_afterfork_registry")
        entries: dict[Any, Any] = {} if registry is None else registry.data
        for key in list(entries):
            if key[-1] in belongings:
                place = f"multiprocessing.util._afterfork_registry[{key[0]}]"
                yield Hold(place=place, held=name_of(key[-1]), cut=partial(entries.pop, key, None))
