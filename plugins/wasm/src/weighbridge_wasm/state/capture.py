"""Which pages of a linear memory a snapshot needs."""

from __future__ import annotations

import ctypes
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

from .snapshot import SYSTEM_PAGE_BYTES, Run

_ZERO_PAGE: Final = bytes(SYSTEM_PAGE_BYTES)
_CHUNK_BYTES: Final = 64 * SYSTEM_PAGE_BYTES
_PyBUF_READ: Final = 0x100


def capture(
    memory: memoryview, dirty: Iterable[tuple[int, int]] | None, *, initial: Iterable[tuple[int, int]] | None = None
) -> tuple[Run, ...]:
    """Runs for a snapshot, as views of `memory`: write them before it changes or goes.

    Only what `dirty` names is read. Reading a page that nobody has touched would map the zero page into it, and make
    every later scan slower.

    :param memory: the linear memory, of format ``"B"``.
    :param dirty: first byte, and the byte after the last one, of what was written since the instance was made; in
        order, in pages of 4 KiB. None, where nobody knows: all of the memory.
    :param initial: likewise, in any order and of any size, what is not zero in an instance that was just made. A page
        of zeros outside of it is left out; a page of zeros in it is noted, since the instance was made with something
        else there. None: every page of zeros is noted.
    :raises ValueError: if a range of `dirty` does not lie within the memory, or is not in pages of 4 KiB.
    """
    ranges = None if initial is None else _Ranges(initial)
    runs: list[Run] = []
    for start, stop in ((0, len(memory)),) if dirty is None else dirty:
        if start != stop:
            runs.extend(_used(memory, start, stop, ranges))
    return tuple(runs)


def memory_at(address: int, nbytes: int) -> memoryview:
    """A read-only view of `nbytes` bytes at an address of this process. It does not keep them there."""
    # ctypes keeps a class for each length of an array; this makes none.
    view: memoryview = _from_memory(address, nbytes, _PyBUF_READ)
    return view


_from_memory: Final = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)(
    ("PyMemoryView_FromMemory", ctypes.pythonapi)
)


def _used(memory: memoryview, start: int, stop: int, initial: _Ranges | None) -> Iterator[Run]:
    if not 0 <= start < stop <= len(memory) or (start | stop) % SYSTEM_PAGE_BYTES:
        raise ValueError(
            f"bytes {start} to {stop} of a memory of {len(memory)}: give pages of {SYSTEM_PAGE_BYTES} bytes within it"
        )
    for first, end, is_zero in _stretches(memory, start, stop):
        if not is_zero:
            yield Run(first, end - first, memory[first:end])
        elif initial is None:
            yield Run(first, end - first, None)
        else:
            yield from initial.within(first, end)


def _stretches(memory: memoryview, start: int, stop: int) -> Iterator[tuple[int, int, bool]]:
    """Neighbouring pages that are all zeros, or all not: first byte, the byte after the last one, and which it is."""
    first, was_zero = start, None
    for at, is_zero in _pages(memory, start, stop):
        if is_zero is not was_zero:
            if was_zero is not None:
                yield first, at, was_zero
            first, was_zero = at, is_zero
    yield first, stop, bool(was_zero)


def _pages(memory: memoryview, start: int, end: int) -> Iterator[tuple[int, bool]]:
    """Offset of each page, and whether it is all zeros."""
    for base in range(start, end, _CHUNK_BYTES):
        # startswith compares within bytes at the speed of memcmp; a view is compared byte by byte.
        chunk = bytes(memory[base : min(base + _CHUNK_BYTES, end)])
        for at in range(0, len(chunk), SYSTEM_PAGE_BYTES):
            yield base + at, chunk.startswith(_ZERO_PAGE, at)


class _Ranges:
    """Pages that have something in them at the beginning."""

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        for start, stop in sorted(ranges):
            if start < stop:
                self._add(start // SYSTEM_PAGE_BYTES * SYSTEM_PAGE_BYTES, stop + -stop % SYSTEM_PAGE_BYTES)

    def _add(self, start: int, stop: int) -> None:
        if self._stops and start <= self._stops[-1]:
            self._stops[-1] = max(self._stops[-1], stop)
        else:
            self._starts.append(start)
            self._stops.append(stop)

    def within(self, start: int, end: int) -> Iterator[Run]:
        """Runs of zeros for what of `start` to `end` lies in them."""
        for index in range(bisect_right(self._stops, start), len(self._starts)):
            first, last = max(start, self._starts[index]), min(end, self._stops[index])
            if first >= last:
                return
            yield Run(first, last - first, None)
