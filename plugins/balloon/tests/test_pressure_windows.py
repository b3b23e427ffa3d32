"""What is written for Windows, against a library that answers as its documentation says."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from weighbridge_balloon.meminfo import Memory
from weighbridge_balloon.pages import HUGE
from weighbridge_balloon.windows import LowMemory, MemoryStatus, WindowsMemory, WindowsPages


class Function:
    """A function of a library: a call, with the type of its result."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.restype: Any = ctypes.c_int

    def __call__(self, *arguments: Any) -> Any:
        return self.call(*arguments)


class Kernel32:
    """As much of kernel32 as is called."""

    def __init__(self) -> None:
        self.low = 0
        self.fails = False
        self.closed: list[int] = []
        self.reserved: dict[int, int] = {}
        self.next = 3 * HUGE + 65536
        self.thief = 0
        for name in (
            "GlobalMemoryStatusEx",
            "CreateMemoryResourceNotification",
            "QueryMemoryResourceNotification",
            "CloseHandle",
            "VirtualAlloc",
            "VirtualFree",
        ):
            setattr(self, name, Function(getattr(self, f"_{name}")))

    def _GlobalMemoryStatusEx(self, status: Any) -> int:
        assert status._obj.length == 64, "the call fails without the length of the structure"
        status._obj.total_physical, status._obj.available_physical = 1000, 400
        status._obj.commit_limit, status._obj.commit_available = 2000, 500
        return 0 if self.fails else 1

    def _CreateMemoryResourceNotification(self, kind: int) -> int | None:
        assert kind == 0
        return None if self.fails else 77

    def _QueryMemoryResourceNotification(self, handle: Any, state: Any) -> int:
        assert handle.value == 77
        state._obj.value = self.low
        return 0 if self.fails else 1

    def _CloseHandle(self, handle: Any) -> int:
        self.closed.append(handle.value)
        return 1

    def _VirtualAlloc(self, address: Any, nbytes: Any, kind: Any, access: Any) -> int | None:
        if self.fails:
            return None
        if address.value is None:
            assert (kind.value, access.value) == (0x2000, 0x01)
            start = self.next
        else:
            assert (kind.value, access.value) == (0x3000, 0x04)
            if self.thief:
                self.thief -= 1
                self.next += HUGE
                return None
            start = address.value
        self.reserved[start] = nbytes.value
        return start

    def _VirtualFree(self, address: Any, nbytes: Any, kind: Any) -> int:
        assert (nbytes.value, kind.value) == (0, 0x8000), "a release gives the whole block, and a size of 0"
        return int(self.reserved.pop(address.value, None) is not None)


@pytest.fixture
def library() -> Kernel32:
    return Kernel32()


def test_structure_has_the_documented_size() -> None:
    """MEMORYSTATUSEX: two numbers of 32 bits and seven of 64."""
    assert ctypes.sizeof(MemoryStatus) == 64


def test_memory_is_read(library: Kernel32) -> None:
    """What is committed is the limit less what is left; free memory and the balloon are not to be seen."""
    memory = WindowsMemory(library)
    assert memory.read() == Memory(total_bytes=1000, available_bytes=400, committed_bytes=1500)
    library.fails = True
    assert memory.read() == Memory()
    memory.close()


def test_low_memory_is_told_once_for_each_time(library: Kernel32) -> None:
    """It stays signalled while memory is low."""
    source = LowMemory(library)
    told = []
    for library.low in (0, 1, 1, 0, 1):
        told.append(source.look(0) is not None)
    assert told == [False, True, False, False, True]
    assert source.mask == 0
    library.fails = True
    assert source.look(0) is None
    source.close()
    source.close()
    assert library.closed == [77]


def test_system_without_the_notification_is_an_error(library: Kernel32) -> None:
    """No handle, no source."""
    library.fails = True
    with pytest.raises(OSError, match="no handle"):
        LowMemory(library)


def test_block_is_aligned_and_released_whole(library: Kernel32) -> None:
    """Found by reserving more than is wanted; of that nothing stays."""
    pages = WindowsPages(library)
    address = pages.take(2 * HUGE)
    assert address % HUGE == 0
    assert library.reserved == {address: 2 * HUGE}
    assert pages.resident_bytes(address, 2 * HUGE) == 2 * HUGE
    assert pages.give_back(address, 2 * HUGE)
    assert library.reserved == {}


def test_place_that_somebody_else_took_is_tried_again(library: Kernel32) -> None:
    """Another thread may allocate between the two calls."""
    library.thief = 3
    address = WindowsPages(library).take(HUGE)
    assert library.reserved == {address: HUGE}


@pytest.mark.parametrize("thief", [0, 100])
def test_block_that_cannot_be_had_is_an_error(thief: int, library: Kernel32) -> None:
    """For want of memory, or because somebody else is always faster."""
    library.thief, library.fails = thief, not thief
    with pytest.raises(MemoryError):
        WindowsPages(library).take(HUGE)
    assert library.reserved == {}
