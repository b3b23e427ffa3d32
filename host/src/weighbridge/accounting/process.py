"""Memory of this process as the operating system counts it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from typing import Final

_LINUX: Final = sys.platform.startswith("linux")


class ProcessMemory:
    """The resident set: one ``pread`` of a kept ``/proc/self/statm`` on Linux, psutil elsewhere.

    statm's second field is the resident pages: https://docs.kernel.org/filesystems/proc.html
    """

    def __init__(self) -> None:
        self._page_bytes = os.sysconf("SC_PAGE_SIZE") if _LINUX else 0
        self._statm: int | None = None
        self._pid: int | None = None

    def resident_bytes(self) -> int:
        """Bytes of physical memory that the process occupies now.

        :raises OSError: if ``/proc`` is not mounted.
        """
        if not _LINUX:
            return self._from_psutil()
        # the descriptor names the process that opened it, so a forked child needs one of its own
        if self._statm is None or self._pid != os.getpid():
            self._reopen()
        assert self._statm is not None
        return int(os.pread(self._statm, 128, 0).split(b" ", 2)[1]) * self._page_bytes

    def unique_bytes(self) -> int | None:
        """Bytes that would be freed if the process ended now (USS); slower. None where the system hides it."""
        import psutil

        try:
            return int(psutil.Process().memory_full_info().uss)
        except (psutil.Error, AttributeError):
            return None

    def close(self) -> None:
        """Give the descriptor back. Reading again opens a new one."""
        if self._statm is not None:
            os.close(self._statm)
            self._statm = None

    def __del__(self) -> None:
        self.close()

    def _reopen(self) -> None:
        self.close()
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._pid = os.getpid()

    def _from_psutil(self) -> int:
        import psutil

        return int(psutil.Process().memory_info().rss)


def can_trim() -> bool:
    """Whether the C library hands free memory back when it is asked."""
    return _malloc_trim() is not None


def trim() -> bool | None:
    """Ask the C library to hand free memory back to the system; whether it did, None where it cannot.

    glibc: https://man7.org/linux/man-pages/man3/malloc_trim.3.html; musl, macOS and Windows have no such call.
    """
    call = _malloc_trim()
    return None if call is None else bool(call(0))


@cache  # looked up once: every look-up makes a class of its own, which only the garbage collector gets rid of
def _malloc_trim() -> Callable[[int], int] | None:
    if not _LINUX:
        return None
    import ctypes

    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except AttributeError:
        return None
    found.argtypes = [ctypes.c_size_t]  # type: ignore[attr-defined]
    return found
