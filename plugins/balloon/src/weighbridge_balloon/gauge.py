"""How the machine stands: what is free, what the balloon holds, what is wanted of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs

from .kept import KeptFile
from .levels.level import LevelSource
from .meminfo import Memory, parse_meminfo
from .percpu import PerCpuLists


@attrs.frozen(kw_only=True)
class Figures:
    """One look at the machine, in bytes; None is unknown."""

    total_bytes: int | None = None
    free_bytes: int | None = None
    available_bytes: int | None = None
    balloon_bytes: int | None = None
    """What the balloon holds."""
    wanted_bytes: int | None = None
    """What the hypervisor wants beyond that; below 0 memory comes back."""


class MemorySource(Protocol):
    """Where the memory of the machine is counted."""

    def read(self) -> Memory:
        """Look."""

    def close(self) -> None:
        """Give back what it holds; the next read takes it again."""


class MeminfoFile:
    """/proc/meminfo, kept open."""

    def __init__(self, file: KeptFile) -> None:
        self._file = file

    def read(self) -> Memory:
        """Look; a file that cannot be read leaves everything unknown."""
        return parse_meminfo(self._file.read() or b"")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Gauge:
    """Reads memory and balloon at one go.

    A target counts together with the size of the same place, since their difference is what matters. The size comes
    from /proc/meminfo where that has it: one file is read then, and not two.
    """

    def __init__(self, memory: MemorySource, levels: Sequence[LevelSource], lists: PerCpuLists | None = None) -> None:
        self._memory = memory
        self._lists = lists
        self._levels = tuple(levels)
        self._targets = tuple(level for level in levels if level.sees_target)

    def read(self) -> Figures:
        """Look now."""
        memory = self._memory.read()
        actual, wanted = memory.balloon_bytes, None
        for source in self._targets if actual is not None else self._levels:
            level = source.read()
            actual = level.actual_bytes if actual is None else actual
            wanted = level.wanted_bytes if wanted is None else wanted
            if actual is not None and (wanted is not None or not self._targets):
                break
        return Figures(
            total_bytes=memory.total_bytes,
            free_bytes=memory.free_bytes,
            available_bytes=memory.available_bytes,
            balloon_bytes=actual,
            wanted_bytes=wanted,
        )

    def read_closely(self) -> Figures:
        """Look now, and count what processors keep at hand as free and available; slower by far."""
        figures = self.read()
        kept = 0 if self._lists is None else self._lists.free_bytes()
        free, available = figures.free_bytes, figures.available_bytes
        return attrs.evolve(
            figures,
            free_bytes=None if free is None else free + kept,
            available_bytes=None if available is None else available + kept,
        )

    def close(self) -> None:
        """Close every file."""
        self._memory.close()
        if self._lists is not None:
            self._lists.close()
        for source in self._levels:
            source.close()
