"""It registers a function, a lambda, a partial and a bound method with atexit."""

from __future__ import annotations

import atexit
from collections.abc import Callable
from functools import partial

TIE = "atexit"


def goodbye(word: str = "bye") -> None:
    """Say nothing."""


class Shop:
    """Closes."""

    def close(self) -> None:
        """Do nothing."""


OURS: list[Callable[[], object]] = [goodbye, lambda: None, partial(goodbye, "so long"), Shop().close]
for callback in OURS:
    atexit.register(callback)


class _Count:
    """Counts what it is compared with."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        """What atexit takes is callable."""

    def __eq__(self, other: object) -> bool:
        self.count += any(other is one for one in OURS)
        return False

    __hash__ = None  # type: ignore[assignment]


def intact() -> object:
    """How many callbacks of this copy are still registered: a callback that is compared shows itself."""
    probe = _Count()
    atexit.unregister(probe)
    return probe.count
