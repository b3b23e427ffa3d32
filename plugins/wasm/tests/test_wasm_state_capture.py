"""Which pages of a memory are put into a snapshot."""

from __future__ import annotations

import ctypes
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge_wasm.config import PAGE_BYTES
from weighbridge_wasm.state import SYSTEM_PAGE_BYTES, Run, Snapshot, capture, memory_at

SHA = bytes(32)
PAGES = st.lists(st.sampled_from([b"\0", b"a", b"b"]), min_size=16, max_size=16)


def whole(pages: list[bytes]) -> bytes:
    """A memory with one byte for each page, at its end: what is before it is zero."""
    return b"".join(page.rjust(SYSTEM_PAGE_BYTES, b"\0") for page in pages)


@given(before=PAGES, after=PAGES, is_initial_known=st.booleans())
def test_changed_memory_comes_back(before: list[bytes], after: list[bytes], is_initial_known: bool) -> None:
    """Whatever an instance began with and whatever was written, a new instance becomes the same."""
    first, last = whole(before), whole(after)
    places = range(0, PAGE_BYTES, SYSTEM_PAGE_BYTES)
    dirty = [(at, at + SYSTEM_PAGE_BYTES) for at, old, new in zip(places, before, after, strict=True) if old != new]
    initial = [
        (at + SYSTEM_PAGE_BYTES - 1, at + SYSTEM_PAGE_BYTES)
        for at, old in zip(places, before, strict=True)
        if old != b"\0"
    ]
    runs = capture(memoryview(last), dirty, initial=initial if is_initial_known else None)
    memory = bytearray(first)

    def write(offset: int, content: bytes | memoryview) -> None:
        memory[offset : offset + len(content)] = content

    Snapshot.from_bytes(Snapshot(module_sha256=SHA, pages=1, runs=runs).to_bytes()).restore(write)
    assert memory == last


@given(PAGES)
def test_without_a_scan_all_of_the_memory_is_looked_at(pages: list[bytes]) -> None:
    """Every page is in a run, neighbours of one kind in one run, and pages of zeros have no content."""
    runs = capture(memoryview(whole(pages)), None)
    assert sum(run.nbytes for run in runs) == PAGE_BYTES
    assert sum(run.nbytes for run in runs if run.content is not None) == SYSTEM_PAGE_BYTES * (16 - pages.count(b"\0"))
    kinds = [run.content is None for run in runs]
    assert all(kind is not following for kind, following in pairwise(kinds))


def test_pages_of_zeros_are_left_out_where_a_new_instance_has_zeros() -> None:
    """Only where a data segment had something does the snapshot say that there is nothing now."""
    memory = memoryview(bytes(PAGE_BYTES))
    runs = capture(memory, [(0, PAGE_BYTES)], initial=[(40_000, 40_001), (4097, 4099), (8191, 8193)])
    assert runs == (Run(4096, 8192, None), Run(36_864, 4096, None))
    assert capture(memory, [(8192, 16_384)], initial=[(4097, 9000)]) == (Run(8192, 4096, None),)
    assert capture(memory, [(0, PAGE_BYTES)], initial=[]) == ()


def test_only_dirty_pages_are_read() -> None:
    """A page that was not written to is not touched: here it cannot even be read."""

    class Memory:
        """Says which bytes were asked for."""

        def __init__(self) -> None:
            self.asked: list[tuple[int, int]] = []

        def __len__(self) -> int:
            return PAGE_BYTES

        def __getitem__(self, part: slice) -> memoryview:
            self.asked.append((part.start, part.stop))
            return memoryview(b"x" * (part.stop - part.start))

    memory = Memory()
    capture(memory, [(4096, 8192), (61_440, 65_536)])  # type: ignore[arg-type] # as much of a view as it uses
    assert set(memory.asked) == {(4096, 8192), (61_440, 65_536)}


def test_content_is_a_view() -> None:
    """What is written after it was captured is seen: nothing was copied."""
    memory = bytearray(b"a" * PAGE_BYTES)
    (run,) = capture(memoryview(memory), [(0, 8192)])
    memory[0] = ord("b")
    assert run.content is not None
    assert (run.content[0], run.nbytes) == (ord("b"), 8192)


@pytest.mark.parametrize("dirty", [(-4096, 0), (0, PAGE_BYTES + 4096), (1, 4096), (0, 4095), (8192, 4096)])
def test_range_outside_of_the_memory_is_refused(dirty: tuple[int, int]) -> None:
    """So is one that is not of whole pages."""
    with pytest.raises(ValueError, match="of a memory of 65536: give pages of 4096 bytes within it"):
        capture(memoryview(bytes(PAGE_BYTES)), [dirty])


def test_empty_range_is_nothing() -> None:
    """A scanner may give one."""
    assert capture(memoryview(bytes(PAGE_BYTES)), [(4096, 4096)]) == ()


def test_memory_at_an_address_is_read_and_not_written() -> None:
    """The view shows what is there, and keeps nobody from changing it."""
    place = ctypes.create_string_buffer(b"abc", 3)
    view = memory_at(ctypes.addressof(place), 3)
    assert (bytes(view), view.readonly, view.format) == (b"abc", True, "B")
    place[1] = b"x"
    assert bytes(view) == b"axc"
