"""Memory of the system for secrets: locked, out of dumps, empty in forked children, cut into slots of one size."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import weakref
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import attrs

_SLOT_SIZES: Final = (16, 32, 48, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096)
SLAB_BYTES: Final = max(16 * 1024, mmap.PAGESIZE)
# Python has no name for MADV_WIPEONFORK (Linux 4.14), whose number is in
# https://github.com/torvalds/linux/blob/v6.1/include/uapi/asm-generic/mman-common.h
_WIPE_ON_FORK: Final = 18 if sys.platform == "linux" else None
_DONT_DUMP: Final[int | None] = getattr(mmap, "MADV_DONTDUMP", None)


class Slab:
    """A mapping of slots of one size."""

    def __init__(self, slot_bytes: int) -> None:
        self.nbytes: Final = mapping_bytes(slot_bytes)
        self.slot_bytes: Final = slot_bytes
        self._memory = _map(self.nbytes)
        self.lock_error: Final = _lock(self._memory, self.nbytes)
        self.is_dumpable: Final = not _advise(self._memory, _DONT_DUMP)
        self.is_inherited: Final = not _advise(self._memory, _WIPE_ON_FORK)
        self.slots: Final = self.nbytes // slot_bytes
        self.slots_left = self.slots
        self._free: list[int] = []
        self._fresh = 0

    def take(self, length: int) -> Slot:
        """A slot that nobody has; there must be one."""
        self.slots_left -= 1
        if self._free:
            return Slot(self, self._free.pop(), length)
        self._fresh += self.slot_bytes
        return Slot(self, self._fresh - self.slot_bytes, length)

    def give(self, slot: Slot) -> None:
        """Take a slot back that was wiped, and that nobody has a view of."""
        self.slots_left += 1
        self._free.append(slot.offset)

    def window(self, offset: int) -> Any:
        """The slot as an object of its own: it lives as long as any view of it, and the mapping lives as long as it."""
        return (ctypes.c_char * self.slot_bytes).from_buffer(self._memory, offset)

    def wipe(self, offset: int, nbytes: int) -> None:
        """Overwrite with zeros."""
        self._memory[offset : offset + nbytes] = bytes(nbytes)

    def complaint(self) -> str | None:
        """What the system refused, as a sentence; None if it gave everything."""
        exposed = []
        if self.lock_error is not None:
            exposed.append(f"may be swapped to disk, for they are not locked in memory ({self.lock_error})")
        if self.is_dumpable:
            exposed.append("would be in a core dump")
        if self.is_inherited:
            exposed.append("are copied into forked children")
        if not exposed:
            return None
        advice = " Raise the limit on locked memory (ulimit -l, LimitMEMLOCK=)." if self.lock_error else ""
        return f"{self.nbytes} bytes of secrets {', and '.join(exposed)}.{advice}"

    def unmap(self) -> bool:
        """Wipe it and give it back; False if a view keeps it, with zeros in it, until that view is gone."""
        self.wipe(0, self.nbytes)
        try:
            self._memory.close()  # munmap unlocks as well
        except BufferError:
            return False
        return True


@attrs.define(eq=False)
class Slot:
    """A part of a slab that holds one secret, and the views of it that may still be there."""

    slab: Slab
    offset: int
    length: int
    windows: dict[int, weakref.ref[Any]] = attrs.field(factory=dict)
    """Views that are still there, by the identity of the reference, which leaves when its window dies."""

    def open(self) -> tuple[weakref.ref[Any], memoryview]:
        """A writable view of the content, and a reference that dies with the last view made from it."""
        window = self.slab.window(self.offset)
        reference = weakref.ref(window, self._forget)
        self.windows[id(reference)] = reference
        with memoryview(window) as whole, whole.cast("B") as flat:
            return reference, flat[: self.length]

    def _forget(self, reference: weakref.ref[Any]) -> None:
        self.windows.pop(id(reference), None)

    def wipe(self) -> None:
        """Overwrite the content with zeros."""
        self.slab.wipe(self.offset, self.length)


def close_view(view: memoryview) -> bool:
    """Release a view; False if something made from it holds it open."""
    try:
        view.release()
    except BufferError:  # somebody exported its buffer
        return False
    return True


def slot_size(nbytes: int) -> int:
    """The size of slot for so many bytes: whole pages for what is large."""
    return next((size for size in _SLOT_SIZES if size >= nbytes), -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE)


def mapping_bytes(slot_bytes: int) -> int:
    """Bytes of the slab for slots of this size, in whole pages."""
    return -(-max(slot_bytes, SLAB_BYTES) // mmap.PAGESIZE) * mmap.PAGESIZE


def _map(nbytes: int) -> mmap.mmap:
    """Memory of the system. It has to be private: shared memory would be the same in a forked child."""
    if hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return mmap.mmap(-1, nbytes)


def _advise(memory: mmap.mmap, advice: int | None) -> bool:
    """Whether the system took the advice."""
    if advice is None:
        return False
    try:
        memory.madvise(advice)
    except OSError:
        return False
    return True


def _lock(memory: mmap.mmap, nbytes: int) -> str | None:
    """Keep memory out of the swap. Gives why not, in words; None if it is locked."""
    mlock = _mlock()
    if mlock is None:
        return "this system has no mlock"
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if mlock(ctypes.c_void_p(address), ctypes.c_size_t(nbytes)) == 0:
        return None
    return os.strerror(ctypes.get_errno())


@cache
def _mlock() -> Callable[[ctypes.c_void_p, ctypes.c_size_t], int] | None:
    try:
        found: Callable[[ctypes.c_void_p, ctypes.c_size_t], int] = ctypes.CDLL(None, use_errno=True).mlock
    except (AttributeError, OSError, TypeError):  # no such function, or a system that has no such library
        return None
    return found
