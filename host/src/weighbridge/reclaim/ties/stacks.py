"""Exit stacks that somebody keeps open, and what they are to call when they are closed."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any

from ..belongings import Belongings
from ..names import name_of, namespace_of
from .tie import Hold, Tie


class ExitStacks(Tie):
    """``contextlib.ExitStack``, such as the one that ``atexit`` is to close for temporary files of resources.

    ``importlib.resources.as_file`` itself keeps nothing but the name of its temporary file
    (https://github.com/python/cpython/blob/3.11/Lib/importlib/resources/_common.py).
    """

    name = "exit stack"
    sentence = "somebody keeps an open contextlib.ExitStack with a callback or a context of the plugin's"
    safe = False
    kinds = (contextlib.ExitStack, contextlib.AsyncExitStack)

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """Each callback, without calling it. Whoever closes the stack may count on it."""
        for kind in self.kinds:
            for stack in belongings.heap.get(kind, ()):
                entries = namespace_of(stack).get("_exit_callbacks")
                if type(entries) is not deque:
                    continue
                for entry in list(entries):
                    if entry in belongings:
                        place = f"contextlib.{kind.__name__}._exit_callbacks"
                        yield Hold(place=place, held=_name(entry), cut=partial(_remove, entries, entry))


def _name(entry: Any) -> str:
    callback = entry[-1]
    return name_of(namespace_of(callback).get("__wrapped__", callback))


def _remove(entries: deque[Any], entry: object) -> None:
    for index, one in enumerate(entries):
        if one is entry:
            del entries[index]
            return
