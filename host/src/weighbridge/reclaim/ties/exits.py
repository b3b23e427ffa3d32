"""What runs when the process ends, or when an object dies."""

from __future__ import annotations

import atexit
import sys
import weakref
from collections.abc import Iterator
from functools import partial
from typing import Any

from ..belongings import Belongings
from ..holders import strangers
from ..names import name_of, namespace_of
from .tie import Hold, Tie


class ExitCallbacks(Tie):
    """``atexit`` keeps what it will call until the process ends."""

    name = "atexit"
    sentence = "the plugin registered a callback with atexit; it is taken out and not called"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """A callback each. There is no list of them, but ``unregister`` compares each with what it is given.

        https://docs.python.org/3/library/atexit.html#atexit.unregister
        """
        listing = _Listing()
        atexit.unregister(listing)
        for index, callback in enumerate(listing.seen):
            if callback in belongings:
                cut = partial(atexit.unregister, _Same(callback))
                yield Hold(place=f"atexit, callback {index + 1}", held=name_of(callback), cut=cut)


class _Listing:
    """Equal to nothing, and remembers what it was compared with."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def __call__(self) -> None:
        """What ``atexit`` takes is callable."""

    def __eq__(self, other: object) -> bool:
        self.seen.append(other)
        return False

    __hash__ = None  # type: ignore[assignment]


class _Same:
    """Equal to one object alone, without asking it: a bound method is another object each time it is looked up."""

    def __init__(self, callback: object) -> None:
        self._callback = callback

    def __call__(self) -> None:
        """What ``atexit`` takes is callable."""

    def __eq__(self, other: object) -> bool:
        return other is self._callback

    __hash__ = None  # type: ignore[assignment]


class Finalizers(Tie):
    """``weakref.finalize`` keeps its callback for as long as the object that it waits for."""

    name = "weakref.finalize"
    sentence = "weakref.finalize would call the plugin when an object dies; it is detached and not called"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """A finalizer each whose callback or arguments are the plugin's.

        One that waits for the plugin's object to call others stays: it holds nothing of the plugin's, and it cleans up.
        """
        registry: dict[Any, Any] = weakref.finalize._registry  # type: ignore[attr-defined]
        for finalizer, info in list(registry.items()):
            parts = (info.func, *info.args, *(info.kwargs or {}).values())
            if finalizer in belongings or any(part in belongings for part in parts):
                place = f"weakref.finalize of {_referent(info.weakref)}"
                yield Hold(place=place, held=name_of(info.func), cut=partial(registry.pop, finalizer, None))


def _referent(reference: weakref.ref[Any]) -> str:
    thing = reference()
    return "nothing" if thing is None else name_of(thing)


class WeakCallbacks(Tie):
    """A weak reference of somebody else's with a callback of the plugin's."""

    name = "weakref callback"
    sentence = "a weak reference that somebody else keeps calls the plugin when its object dies"
    kinds = (weakref.ref, weakref.WeakMethod)

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """A reference each. The callback cannot be taken from it: it goes with the reference.

        https://docs.python.org/3/library/weakref.html#weakref.ref.__callback__
        """
        found = []
        for kind in self.kinds:
            for reference in belongings.heap.get(kind, ()):
                callback = reference.__callback__
                if callback is not None and callback in belongings:
                    found.append((reference, callback))
        where = strangers(found, belongings)
        for reference, callback in found:
            if id(reference) in where:
                place = f"the weak reference {where[id(reference)]}"
                yield Hold(place=place, held=name_of(callback), cut=None, note=_FIXED)


_FIXED = "the callback of a weak reference cannot be changed: whoever keeps the reference has to let go of it"


class ProcessFinalizers(Tie):
    """``multiprocessing.util.Finalize``, at the death of an object or at the end of the process."""

    name = "multiprocessing.util.Finalize"
    sentence = "multiprocessing would call the plugin at exit or when an object dies; it is cancelled and not called"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry each: https://github.com/python/cpython/blob/3.11/Lib/multiprocessing/util.py."""
        registry = multiprocessing_util().get("_finalizer_registry", {})
        for key, finalizer in list(registry.items()):
            space = namespace_of(finalizer)
            parts = (space.get("_callback"), *(space.get("_args") or ()), *(space.get("_kwargs") or {}).values())
            if any(part in belongings for part in parts):
                place = f"multiprocessing.util._finalizer_registry[{key!r}]"
                yield Hold(place=place, held=name_of(parts[0]), cut=finalizer.cancel)


def multiprocessing_util() -> dict[str, Any]:
    """The namespace of ``multiprocessing.util``; empty if nobody has imported it."""
    return namespace_of(sys.modules.get("multiprocessing.util"))
