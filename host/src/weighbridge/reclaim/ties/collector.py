"""What the garbage collector itself holds."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from functools import partial

from ..belongings import Belongings
from ..names import name_of
from .running import take_out
from .tie import Hold, Tie


class CollectorCallbacks(Tie):
    """``gc.callbacks`` are called before and after each collection."""

    name = "gc.callbacks"
    sentence = "the plugin asked to be called at each garbage collection; the callback is removed"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """A callback each: https://docs.python.org/3/library/gc.html#gc.callbacks."""
        for index, callback in enumerate(list(gc.callbacks)):
            if callback in belongings:
                cut = partial(take_out, gc.callbacks, callback)
                yield Hold(place=f"gc.callbacks[{index}]", held=name_of(callback), cut=cut)


class Garbage(Tie):
    """``gc.garbage`` keeps what was not freed: with ``gc.DEBUG_SAVEALL`` that is everything."""

    name = "gc.garbage"
    sentence = "gc.garbage has objects of the plugin's, as it does while gc.DEBUG_SAVEALL is set"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An object each: https://docs.python.org/3/library/gc.html#gc.garbage."""
        for index, thing in enumerate(list(gc.garbage)):
            if thing in belongings:
                yield Hold(place=f"gc.garbage[{index}]", held=name_of(thing), cut=partial(take_out, gc.garbage, thing))


class Frozen(Tie):
    """``gc.freeze`` takes all objects of that moment out of the collector's sight, those of the plugin among them."""

    name = "gc.freeze"
    sentence = "gc.freeze was called while the plugin was loaded: the collector no longer looks at its objects"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """Once, however much is frozen: there is no way to thaw one object."""
        if belongings.frozen:
            yield Hold(place="gc.freeze()", held=name_of(belongings.frozen[0]), cut=gc.unfreeze, note=_ALL)


_ALL = "all objects were thawed: the collector has one list of frozen ones"
