"""It calls gc.freeze: the collector no longer looks at anything that was there by then."""

from __future__ import annotations

import gc

TIE = "gc.freeze"


class Frozen:
    """A class is a cycle, which only the collector can free."""


def use() -> None:
    """Freeze."""
    gc.freeze()


def intact() -> object:
    """Whether this copy still works."""
    return type(Frozen()) is Frozen
