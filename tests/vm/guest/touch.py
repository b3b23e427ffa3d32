"""Takes memory and gives it back, without any of our parts."""

from __future__ import annotations

import mmap

from .agent import Line

PAGE = mmap.PAGESIZE


def memory(line: Line, nbytes: int, seconds: float) -> bool:
    """Write to so much memory, say so, and keep it until told to go on; whether that came in time."""
    with mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        area.madvise(mmap.MADV_HUGEPAGE)
        for start in range(0, nbytes, PAGE):
            area[start] = 1
        line.event("held")
        return line.is_asked(seconds) and line.receive() == {"go": "on"}
