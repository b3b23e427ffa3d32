"""Which pages of a memory were written to, asked of the kernel: ``PAGEMAP_SCAN``, Linux 6.7 and newer.

Source: ``include/uapi/linux/fs.h``, ``Documentation/admin-guide/mm/pagemap.rst``, and as an example of its use
``tools/testing/selftests/mm/pagemap_ioctl.c``.
"""

from __future__ import annotations

import ctypes
import os
from io import FileIO
from typing import Final

from .baseline import Run

# enum of include/uapi/linux/fs.h, PAGE_IS_*
_FILE: Final = 1 << 2
_PRESENT: Final = 1 << 3
_SWAPPED: Final = 1 << 4
_PFNZERO: Final = 1 << 5

# _IOWR('f', 16, struct pm_scan_arg) as all architectures number it but Alpha, MIPS, PowerPC and SPARC: there the trial
# fails, and another way is taken. The structure is twelve numbers of 64 bits.
_PAGEMAP_SCAN: Final = 3 << 30 | 96 << 16 | ord("f") << 8 | 16
_START, _END, _WALK_END = 2, 3, 4

# A region of the answer is three numbers: begin, end, categories. A longer vector costs the kernel an allocation of
# its size at each scan, a shorter one more scans: 256 were neither to be felt.
_REGIONS: Final = 256
_NUMBERS_OF_A_REGION: Final = 3


class DirtyPages:
    """Asks which pages of this process's private memory were written to, without touching one.

    A page counts if it is there (or swapped out: leaving those out lost writes in
    https://github.com/bytecodealliance/wasmtime/pull/14357), and is neither a page of a file, such as the image that a
    memory begins as, nor the page of zeros that reading maps. A transparent huge page counts as a whole.

    May be used from several threads at once. A descriptor names the process that opened it, so that each process that
    is forked off opens its own. Close it.

    :param regions: how many runs one question can answer; more take more questions.
    :raises OSError: there is no ``/proc``, or it may not be read.
    """

    def __init__(self, regions: int = _REGIONS) -> None:
        import fcntl  # there is none on Windows, and this module has to be importable there

        self._ioctl = fcntl.ioctl
        self._regions = regions
        self._idle: list[_Question] = []
        self._files: dict[int, FileIO] = {os.getpid(): _open_pagemap()}
        self._is_closed = False

    def runs(self, address: int, nbytes: int) -> list[Run]:
        """The runs of whole pages that were written to, in ascending order, counted from `address`.

        :raises OSError: the kernel has no such call, or does not allow it.
        :raises ValueError: closed.
        """
        return self.scan(address, nbytes)[0]

    def scan(self, address: int, nbytes: int) -> tuple[list[Run], list[Run]]:
        """The same, and beside it the runs that were read and never written to, except those of a file.

        Takes time in proportion to what was touched, and nearly none for what was not.
        """
        file = self._files.get(os.getpid()) or self._adopt()
        try:
            question = self._idle.pop()  # one each: two threads would write into each other's
        except IndexError:
            question = _Question(self._regions)
        written: list[Run] = []
        read: list[Run] = []
        numbers, answer, end = question.numbers, question.answer, address + nbytes
        numbers[_START], numbers[_END] = address, end
        while numbers[_START] < end:
            count = self._ioctl(file, _PAGEMAP_SCAN, question.structure, True)
            for at in range(0, count * _NUMBERS_OF_A_REGION, _NUMBERS_OF_A_REGION):
                found = read if answer[at + 2] else written
                found.append((answer[at] - address, answer[at + 1] - address))
            numbers[_START] = numbers[_WALK_END]  # before the end where the vector was full
        self._idle.append(question)
        return written, read

    def close(self) -> None:
        """Close the descriptor; twice is once."""
        self._is_closed = True
        self._idle.clear()
        while self._files:
            self._files.popitem()[1].close()

    def _adopt(self) -> FileIO:
        """Open the map of the process that this one has become by a fork; no lock, for a fork may have caught it."""
        if self._is_closed:
            raise ValueError("The map of this process's pages is closed")
        mine = _open_pagemap()
        kept = self._files.setdefault(os.getpid(), mine)
        if kept is not mine:
            mine.close()
        for pid in [pid for pid in self._files if pid != os.getpid()]:
            parents = self._files.pop(pid, None)
            if parents is not None:
                parents.close()
        return kept


class _Question:
    """The structure ``pm_scan_arg`` and the vector of the answer, filled in once and used again and again."""

    __slots__ = ("answer", "numbers", "structure")

    def __init__(self, regions: int) -> None:
        vector = (ctypes.c_uint64 * (regions * _NUMBERS_OF_A_REGION))()
        self.answer = memoryview(vector).cast("B").cast("Q")
        self.structure = bytearray(96)
        self.numbers = memoryview(self.structure).cast("Q")
        self.numbers[0] = len(self.structure)
        self.numbers[5], self.numbers[6] = ctypes.addressof(vector), regions
        # A page is told of if it is of no file (inverted and wanted), and there or swapped out. What is asked for in
        # return is only whether it is the page of zeros: neighbours that differ otherwise come as one region.
        self.numbers[8] = self.numbers[9] = _FILE
        self.numbers[10] = _PRESENT | _SWAPPED
        self.numbers[11] = _PFNZERO


def _open_pagemap() -> FileIO:
    return FileIO("/proc/self/pagemap")
