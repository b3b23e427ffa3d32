"""What a warm pool has of one module: instances in the order of their use, and how many were in use at once."""

from __future__ import annotations

from collections import deque
from typing import Final, Generic, Literal, Protocol, TypeAlias, TypeVar

import attrs

Reason: TypeAlias = Literal[
    "closed", "decayed", "discarded", "dropped", "evicted", "failed_reset", "full", "over_bytes", "spoiled", "trimmed"
]
"""Why an instance was closed.

- ``closed``: the pool was.
- ``decayed``: more were idle than its module used at once of late.
- ``discarded``: its module was.
- ``dropped``: whoever had it did not want it kept.
- ``evicted``: there were too many idle ones in all, and its module was the one used least recently.
- ``failed_reset``: it could not be made pristine.
- ``full``: its module had as many idle ones as it may have.
- ``over_bytes``: idle ones took too many bytes, and its module was the one used least recently.
- ``spoiled``: its last call trapped, or was interrupted.
- ``trimmed``: memory was wanted back.
"""


class Poolable(Protocol):
    """What a pool keeps. The pool calls it from one thread at a time, and never while it is lent."""

    def reset(self) -> bool:
        """Make it pristine; False if that cannot be."""

    def resident_bytes(self) -> int:
        """Memory that it occupies, in bytes."""

    def close(self) -> None:
        """Give everything back."""


T = TypeVar("T", bound=Poolable)


@attrs.frozen(kw_only=True)
class ModulePool:
    """What the pool has of one module."""

    idle: int
    in_use: int
    peak: int
    """The most that were in use at once, in this window and those remembered."""
    resident_bytes: int
    """Of the idle ones and those in use, as last measured; one that never came back yet counts for nothing."""


class Entry(Generic[T]):
    """One instance of the pool, idle or lent."""

    __slots__ = ("is_stale", "item", "measured_at", "nbytes", "shelf")

    def __init__(self, item: T) -> None:
        self.item: Final = item
        self.shelf: Shelf[T] | None = None  # only while it is lent: a shelf has its idle ones, and rings are to be none
        self.nbytes = 0
        self.measured_at = float("-inf")
        self.is_stale = True  # used since it was measured


class Shelf(Generic[T]):
    """The instances of one module."""

    __slots__ = ("aside", "idle", "idle_bytes", "in_use", "is_open", "key", "max_idle", "peak", "peaks")

    def __init__(self, key: str, windows: int) -> None:
        self.key: Final = key
        self.idle: Final[deque[Entry[T]]] = deque()  # used last is last
        self.aside = 0  # idle ones that are being measured
        self.idle_bytes = 0  # those set aside among them
        self.in_use = self.peak = 0
        self.peaks: Final[deque[int]] = deque(maxlen=windows)
        self.is_open = True
        self.max_idle: int | None = None

    def lend(self, entry: Entry[T]) -> None:
        """Count `entry` as in use."""
        entry.shelf = self
        entry.is_stale = True
        self.in_use += 1
        if self.in_use > self.peak:  # no call of max: the collector may come in between, and whoever it wakes lend
            self.peak = self.in_use

    def end_window(self) -> int:
        """The peak of the windows that are remembered, with the one that ends now."""
        self.peaks.append(self.peak)
        self.peak = self.in_use
        return max(self.peaks)

    def describe(self, lent_bytes: int) -> ModulePool:
        """How it stands, with what its lent instances occupy."""
        return ModulePool(
            idle=len(self.idle) + self.aside,
            in_use=self.in_use,
            peak=max(self.peak, *self.peaks, 0),
            resident_bytes=lent_bytes + self.idle_bytes,
        )
