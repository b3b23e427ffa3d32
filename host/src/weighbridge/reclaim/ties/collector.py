"""What the garbage collector itself holds."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from functools import partial
from types import FunctionType

from ..belongings import Belongings
from ..names import name_of, namespace_of
from .running import remove
from .tie import Hold, Tie


class CollectorCallbacks(Tie):
    """``gc.callbacks`` are called before and after each collection."""

    name = "gc.callbacks"
    sentence = "the plugin asked to be called at each garbage collection; the callback is removed"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """A callback each: https://docs.python.org/3/library/gc.html#gc.callbacks."""
        for index, callback in enumerate(list(gc.callbacks)):
            if callback in belongings:
                cut = partial(remove, gc.callbacks, callback)
                yield Hold(place=f"gc.callbacks[{index}]", held=name_of(callback), cut=cut)


class Garbage(Tie):
    """``gc.garbage`` keeps what was not freed: with ``gc.DEBUG_SAVEALL`` that is everything."""

    name = "gc.garbage"
    sentence = "gc.garbage has objects of the plugin's, as it does while gc.DEBUG_SAVEALL is set"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An object each: https://docs.python.org/3/library/gc.html#gc.garbage."""
        for index, thing in enumerate(list(gc.garbage)):
            if thing in belongings:
                yield Hold(place=f"gc.garbage[{index}]", held=name_of(thing), cut=partial(remove, gc.garbage, thing))


class Frozen(Tie):
    """``gc.freeze`` takes all objects of that moment out of the collector's sight, those of the plugin among them."""

    name = "gc.freeze"
    sentence = "gc.freeze was called while the plugin was loaded: the collector no longer looks at its objects"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """Once, if a function or class in the plugin's modules is not among the objects that the collector knows."""
        if gc.get_freeze_count() == 0:
            return
        known = set(map(id, (*belongings.heap[FunctionType], *belongings.heap[type])))
        for module in belongings.modules:
            for value in list(namespace_of(module).values()):
                is_class = issubclass(type(value), type) and gc.is_tracked(value)
                if (is_class or type(value) is FunctionType) and id(value) not in known and value in belongings:
                    yield Hold(place="gc.freeze()", held=name_of(value), cut=gc.unfreeze, note=_ALL)
                    return


_ALL = "all objects were thawed: the collector has one list of frozen ones"
