"""What ``typing`` remembers of the code that it annotates."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from functools import partial

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

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """Entries of ``typing._cleanups`` that empty a cache of the plugin's."""
        cleanups: list[object] = vars(typing).get("_cleanups", [])
        for place, cleanup in enumerate(cleanups):
            if cleanup in belongings:
                held = name_of(getattr(cleanup, "__self__", cleanup))
                yield Hold(place=f"typing._cleanups[{place}]", held=held, cut=partial(cleanups.remove, cleanup))
