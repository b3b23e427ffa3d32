"""Whether a way to reset a memory works here: tried on memory of our own, never told by the version of a kernel."""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs

from .baseline import PAGE, Baseline

_PAGES = 8
_FILLED = bytes(range(1, 252)) * (2 * PAGE // 251)


@attrs.frozen
class _Data:
    offset: int
    content: bytes


def find_fault(reset: Callable[[int, int, Baseline], int]) -> str | None:
    """Reset two memories, one filled by copying and one mapped from an image, each twice.

    :returns: what was wrong, in words; None if every byte came back.
    :raises OSError: the system has no such call, or gave no memory to try it on.
    """
    data = _Data(PAGE + 5, _FILLED)
    pristine = bytearray(_PAGES * PAGE)
    pristine[data.offset : data.offset + len(data.content)] = data.content
    baseline = Baseline.of([data], len(pristine))
    for image in (None, bytes(pristine)):
        with scratch(len(pristine), image) as (address, memory):
            if image is None:
                memory[:] = bytes(pristine)
            for place in (PAGE + 17, 5 * PAGE):
                _use(memory, place)
                reset(address, len(pristine), baseline)
                if memory[:] != bytes(pristine):
                    return f"a memory {'mapped from an image' if image else 'filled by copying'} came back different"
    return None


def _use(memory: mmap.mmap, place: int) -> None:
    """Write on two pages, and read a third."""
    memory[place : place + 3] = b"abc"
    memory[4 * PAGE - 1] ^= 0xFF
    memory.find(b"abc", 6 * PAGE)


@contextmanager
def scratch(nbytes: int, image: bytes | None = None) -> Iterator[tuple[int, mmap.mmap]]:
    """Private memory, of zeros or mapped from an image as an engine does it: (its address, the map).

    The map is closed at the end.
    """
    memory = _anonymous(nbytes) if image is None else _mapped(image)
    pin = ctypes.c_char.from_buffer(memory)
    address = ctypes.addressof(pin)
    del pin
    with memory:
        yield address, memory


def _anonymous(nbytes: int) -> mmap.mmap:
    if os.name == "nt":
        return mmap.mmap(-1, nbytes)
    return mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _mapped(image: bytes) -> mmap.mmap:
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(image)
        return mmap.mmap(file.fileno(), len(image), access=mmap.ACCESS_COPY)
