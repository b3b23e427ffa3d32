"""What survivors have in common: a few holders that keep a great many things alive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ..reclaim.receipt import Survivor


def kinds(survivors: Iterable[Survivor]) -> list[tuple[str, int]]:
    """How many of each kind, by name of the kind."""
    return sorted(Counter(one.kind for one in survivors).items())


def holders(survivors: Iterable[Survivor]) -> list[tuple[str, int]]:
    """How many each holder keeps alive, the one with most of them first."""
    return Counter(holder(one) for one in survivors).most_common()


def holder(survivor: Survivor) -> str:
    """``typing._overload_registry['a']['b'][75]`` is one holder of many things, and is named without its keys."""
    tie = survivor.tie
    return tie if tie.startswith("frame of ") else tie.partition("[")[0]
