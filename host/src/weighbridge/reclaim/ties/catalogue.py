"""Every tie there is, in the order in which they are cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

from ..belongings import Belongings
from .caches import Dispatchers, LruCaches, Patterns, SourceLines
from .overloads import Overloads
from .tie import Finding, Tie

Cut: TypeAlias = Literal["safe", "all", "none"]
"""Which ties to cut: those that cannot disturb others, all of them, or none; they are found and named in any case."""

TIES: Final[tuple[Tie, ...]] = (
    Overloads(),
    LruCaches(),
    Dispatchers(),
    SourceLines(),
    Patterns(),
)
KINDS: Final = frozenset(kind for tie in TIES for kind in tie.kinds)


def wanted() -> frozenset[type]:
    """Every type that the ties look for on the heap, those that exist only since their module was imported among them.

    A tie reads ``belongings.heap.get(kind, ())`` where a kind may be younger than the walk.
    """
    return KINDS | {kind for tie in TIES for kind in tie.wanted()}


def cut_ties(belongings: Belongings, cut: Cut) -> Iterator[Finding]:
    """Cut every tie that is found; with ``"none"`` they are only named."""
    for tie in TIES:
        if cut == "none":
            yield from tie.find(belongings)
        else:
            yield from tie.cut_all(belongings, unsafe=cut == "all")
