"""Memory straight from the system, in blocks that the system can have back whole."""

from __future__ import annotations

import ctypes
import mmap
import sys
from typing import Any, Final, Protocol

HUGE: Final = 2 * 1024 * 1024
"""The size of a huge page, and the least block that a hypervisor takes back by itself (page reporting order 9)."""

# https://man7.org/linux/man-pages/man2/mmap.2.html; MAP_PRIVATE and MAP_ANONYMOUS differ between architectures.
_HUGEPAGE: Final = getattr(mmap, "MADV_HUGEPAGE", None)
_DONTNEED: Final = getattr(mmap, "MADV_DONTNEED", 4)


class Pages(Protocol):
    """Where blocks come from."""

    def take(self, nbytes: int) -> int:
        """The address of a new block, aligned to 2 MiB.

        :param nbytes: a multiple of 2 MiB.
        :raises MemoryError: if the system gives none.
        """

    def resident_bytes(self, address: int, nbytes: int) -> int:
        """How much of the block is in memory, and so would be given back."""

    def give_back(self, address: int, nbytes: int) -> bool:
        """Let the system have the memory; whether the block is gone. If not, its memory went, and its place stays."""


class PosixPages:
    """Private anonymous mappings: https://man7.org/linux/man-pages/man2/mmap.2.html

    Private ones, since the pages of a shared one, as Python's own ``mmap`` makes, do not go with MADV_DONTNEED.

    :param libc: a test gives its own.
    """

    def __init__(self, libc: Any = None) -> None:
        libc = ctypes.CDLL(None, use_errno=True) if libc is None else libc
        self._mmap, self._munmap, self._madvise = libc.mmap, libc.munmap, libc.madvise
        self._mincore = libc.mincore
        size, number, pointer = ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p
        self._mmap.argtypes = (pointer, size, number, number, number, ctypes.c_long)
        self._mmap.restype = pointer
        self._munmap.argtypes = (pointer, size)
        self._madvise.argtypes = (pointer, size, number)
        self._mincore.argtypes = (pointer, size, ctypes.c_char_p)

    def take(self, nbytes: int) -> int:
        """Map 2 MiB more than wanted, and unmap what lies before and behind."""
        access, kind = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        start = self._mmap(None, nbytes + HUGE, access, kind, -1, 0)
        if start is None or start == ctypes.c_void_p(-1).value:
            raise MemoryError(f"{nbytes} bytes cannot be mapped: error {ctypes.get_errno()}")
        address = -(-start // HUGE) * HUGE
        self._unmap(start, address - start)
        self._unmap(address + nbytes, start + HUGE - address)
        if _HUGEPAGE is not None:
            self._madvise(address, nbytes, _HUGEPAGE)  # fails where the kernel has no huge pages: small ones will do
        return int(address)

    def resident_bytes(self, address: int, nbytes: int) -> int:
        """By https://man7.org/linux/man-pages/man2/mincore.2.html: a huge page is there as a whole, whatever was
        written.

        All of it, if the kernel does not say.
        """
        pages = ctypes.create_string_buffer(nbytes // mmap.PAGESIZE)
        if self._mincore(address, nbytes, pages) != 0:
            return nbytes
        return sum(byte & 1 for byte in pages.raw) * mmap.PAGESIZE

    def give_back(self, address: int, nbytes: int) -> bool:
        """Unmap the block, which also takes it off what is committed: a Hyper-V host looks at nothing else.

        A process at its limit of mappings cannot unmap a block in the middle of one, which would make two of it. Then
        the pages go without it.
        """
        if self._munmap(address, nbytes) == 0:
            return True
        self._madvise(address, nbytes, _DONTNEED)
        return False

    def _unmap(self, address: int, nbytes: int) -> None:
        if nbytes:
            self._munmap(address, nbytes)


def system_pages() -> Pages:
    """Those of this system."""
    if sys.platform == "win32":
        from .windows import WindowsPages

        return WindowsPages()
    return PosixPages()


def trim() -> bool | None:
    """Have the C library give back what it keeps free; whether it did, None where it cannot be asked.

    glibc: https://man7.org/linux/man-pages/man3/malloc_trim.3.html; musl, macOS and Windows have no such call.
    """
    if not sys.platform.startswith("linux"):
        return None
    try:
        return bool(ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0)))
    except AttributeError:
        return None
