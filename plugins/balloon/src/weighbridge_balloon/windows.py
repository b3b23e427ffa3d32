"""Windows: memory, its pressure, and blocks of it. Written to the documented interfaces; it has not been run on
Windows.

- GlobalMemoryStatusEx: https://learn.microsoft.com/windows/win32/api/sysinfoapi/nf-sysinfoapi-globalmemorystatusex
- CreateMemoryResourceNotification:
  https://learn.microsoft.com/windows/win32/api/memoryapi/nf-memoryapi-creatememoryresourcenotification
- VirtualAlloc: https://learn.microsoft.com/windows/win32/api/memoryapi/nf-memoryapi-virtualalloc
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

from .meminfo import Memory
from .pages import HUGE
from .sources.source import Pressure

_LOW: Final = 0
_COMMIT_AND_RESERVE: Final = 0x3000
_RESERVE: Final = 0x2000
_RELEASE: Final = 0x8000
_NO_ACCESS: Final = 0x01
_READ_WRITE: Final = 0x04
_TRIES: Final = 16


class MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX: 64 bytes."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("total_physical", ctypes.c_uint64),
        ("available_physical", ctypes.c_uint64),
        ("commit_limit", ctypes.c_uint64),
        ("commit_available", ctypes.c_uint64),
        ("total_virtual", ctypes.c_uint64),
        ("available_virtual", ctypes.c_uint64),
        ("available_extended", ctypes.c_uint64),
    )


def kernel32() -> Any:
    """The library that has all of this."""
    loader: Any = ctypes
    return loader.WinDLL("kernel32", use_last_error=True)


class WindowsMemory:
    """The memory of the machine. A balloon is not to be seen: drivers of it tell the host alone."""

    def __init__(self, library: Any = None) -> None:
        self._library = kernel32() if library is None else library

    def read(self) -> Memory:
        """Look; everything is unknown if the call fails."""
        status = MemoryStatus(length=ctypes.sizeof(MemoryStatus))
        if not self._library.GlobalMemoryStatusEx(ctypes.byref(status)):
            return Memory()
        return Memory(
            total_bytes=status.total_physical,
            available_bytes=status.available_physical,
            committed_bytes=status.commit_limit - status.commit_available,
        )

    def close(self) -> None:
        """Nothing is kept open."""


class LowMemory:
    """The system's own notification of low memory, looked at in passing.

    It is signalled below about 32 MB for each 4 GB, 64 MB at most, which is late on a large machine; so figures are
    looked at beside it. It stays signalled while memory is low, and is told once for each time that it begins.
    """

    def __init__(self, library: Any = None) -> None:
        library = kernel32() if library is None else library
        library.CreateMemoryResourceNotification.restype = ctypes.c_void_p
        self._library = library
        self._handle = library.CreateMemoryResourceNotification(_LOW)
        if not self._handle:
            raise OSError("CreateMemoryResourceNotification gave no handle")
        self._was_low = False

    @property
    def name(self) -> str:
        """The call."""
        return "CreateMemoryResourceNotification"

    def fileno(self) -> None:
        """It has none: it is looked at whenever figures are."""

    @property
    def mask(self) -> int:
        """Nothing to wait for."""
        return 0

    def look(self, events: int) -> Pressure | None:
        """Whether memory has become low since the last look."""
        state = ctypes.c_int(0)
        if not self._library.QueryMemoryResourceNotification(ctypes.c_void_p(self._handle), ctypes.byref(state)):
            return None
        was_low, self._was_low = self._was_low, bool(state.value)
        if not self._was_low or was_low:
            return None
        return Pressure(level="critical", source=self.name, evidence="the system says that memory is low")

    def close(self) -> None:
        """Close the handle."""
        handle, self._handle = self._handle, None
        if handle:
            self._library.CloseHandle(ctypes.c_void_p(handle))

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self.close()


class WindowsPages:
    """Private committed memory. Releasing it lowers what is committed, which a Hyper-V host looks at."""

    def __init__(self, library: Any = None) -> None:
        self._library = kernel32() if library is None else library
        self._library.VirtualAlloc.restype = ctypes.c_void_p

    def take(self, nbytes: int) -> int:
        """Reserve more than wanted to find an aligned place, and take that. Somebody may take it first: try again."""
        for _ in range(_TRIES):
            start = self._allocate(None, nbytes + HUGE, _RESERVE, _NO_ACCESS)
            if not start:
                break
            self._free(start)
            address = -(-start // HUGE) * HUGE
            if self._allocate(address, nbytes, _COMMIT_AND_RESERVE, _READ_WRITE) == address:
                return address
        raise MemoryError(f"{nbytes} bytes cannot be allocated")

    def resident_bytes(self, address: int, nbytes: int) -> int:
        """All of it: what counts here is what is committed."""
        return nbytes

    def give_back(self, address: int, nbytes: int) -> bool:
        """Release the block."""
        return bool(self._free(address))

    def _allocate(self, address: int | None, nbytes: int, kind: int, access: int) -> int | None:
        given: int | None = self._library.VirtualAlloc(
            ctypes.c_void_p(address), ctypes.c_size_t(nbytes), ctypes.c_uint32(kind), ctypes.c_uint32(access)
        )
        return given

    def _free(self, address: int) -> bool:
        return bool(self._library.VirtualFree(ctypes.c_void_p(address), ctypes.c_size_t(0), ctypes.c_uint32(_RELEASE)))
