"""What ``typing`` remembers of the code that it annotates."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from functools import partial

from ..belongings import Belongings
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
