"""It wants to hear of each garbage collection."""

from __future__ import annotations

import gc

TIE = "gc.callbacks"


def heard(phase: str, details: dict[str, int]) -> None:
    """Do nothing."""


gc.callbacks.append(heard)


def intact() -> object:
    """How often this copy is called."""
    return gc.callbacks.count(heard)
