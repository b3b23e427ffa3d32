"""What the guest library of VMware says, which needs no privilege."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any, Final

from .level import UNKNOWN, Level

_MIB: Final = 1024 * 1024
_SUCCESS: Final = 0
LIBRARY: Final = "vmGuestLib.dll" if sys.platform == "win32" else "libguestlib.so.0"


class VmwareGuestLevel:
    """Ballooned, mapped and target sizes in MiB: ``vmGuestLib.h`` of open-vm-tools.

    https://github.com/vmware/open-vm-tools/blob/stable-12.4.0/open-vm-tools/lib/include/vmGuestLib.h. The target is
    what the hypervisor means the whole machine to have, so what is wanted is what is mapped beyond it; as long as the
    balloon is empty, nobody takes anything. Written to the documented interface; it has not been run under VMware.

    :param load: opens a library by its name; a test gives its own.
    """

    def __init__(self, load: Callable[[str], Any] = ctypes.CDLL) -> None:
        self._load = load
        self._library: Any = None
        self._handle = ctypes.c_void_p()

    @property
    def name(self) -> str:
        """The library."""
        return LIBRARY

    @property
    def sees_target(self) -> bool:
        """Yes."""
        return True

    def read(self) -> Level:
        """Size, and what is wanted."""
        if not self._open() or self._library.VMGuestLib_UpdateInfo(self._handle) != _SUCCESS:
            return UNKNOWN
        ballooned = self._megabytes("VMGuestLib_GetMemBalloonedMB", ctypes.c_uint32())
        mapped = self._megabytes("VMGuestLib_GetMemMappedMB", ctypes.c_uint32())
        target = self._megabytes("VMGuestLib_GetMemTargetSizeMB", ctypes.c_uint64())
        if not ballooned or mapped is None or target is None:
            return Level(actual_bytes=ballooned)
        return Level(actual_bytes=ballooned, wanted_bytes=max(0, mapped - target))

    def close(self) -> None:
        """Close the handle."""
        library, self._library = self._library, None
        if library is not None:
            library.VMGuestLib_CloseHandle(self._handle)

    def __del__(self) -> None:
        self.close()

    def _open(self) -> bool:
        """Whether the library is there and this machine is one of VMware's."""
        if self._library is None:
            try:
                library = self._load(LIBRARY)
                is_open = library.VMGuestLib_OpenHandle(ctypes.byref(self._handle)) == _SUCCESS
            except (OSError, AttributeError):
                return False
            self._library = library if is_open else None
        return self._library is not None

    def _megabytes(self, function: str, room: ctypes.c_uint32 | ctypes.c_uint64) -> int | None:
        error = getattr(self._library, function)(self._handle, ctypes.byref(room))
        return int(room.value) * _MIB if error == _SUCCESS else None
