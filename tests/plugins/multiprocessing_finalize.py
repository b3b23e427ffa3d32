"""It registers a finalizer with multiprocessing."""

from __future__ import annotations

import multiprocessing.util

TIE = "multiprocessing.util.Finalize"


def clean(path: str) -> None:
    """Do nothing."""


finalizer = multiprocessing.util.Finalize(None, clean, args=("nowhere",), exitpriority=1)


def intact() -> object:
    """Whether this copy's finalizer is still registered."""
    return finalizer.still_active()
