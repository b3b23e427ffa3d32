"""Free pages that each processor keeps at hand, which MemFree and /proc/buddyinfo leave out."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Final

from .kept import KeptFile

_COUNT: Final = b" count: "
_DIGITS: Final = 15


class PerCpuLists:
    """The lists of /proc/zoneinfo ("pagesets"): https://man7.org/linux/man-pages/man5/proc_zoneinfo.5.html

    What is freed lands there first. Since Linux 6.7 the kernel lets them grow up to an eighth of a zone
    (``high_max``; https://github.com/torvalds/linux/blob/v6.12/mm/page_alloc.c), so that tens of megabytes may be free
    and nobody counts them. Within some seconds they are handed on, and at once where memory is short.
    """

    def __init__(self, root: Path) -> None:
        self._file = KeptFile(root / "proc/zoneinfo")

    def free_bytes(self) -> int:
        """Bytes in the lists of all processors; 0 where the kernel does not show them, or has none."""
        return sum_counts(self._file.read() or b"")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def sum_counts(text: bytes) -> int:
    """Bytes that the lines ``count:`` add up to."""
    pages = 0
    for part in text.split(_COUNT)[1:]:
        digits = part.partition(b"\n")[0].strip()
        pages += int(digits) if digits.isdigit() and len(digits) <= _DIGITS else 0
    return pages * mmap.PAGESIZE
