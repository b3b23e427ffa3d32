"""What a memory holds before anything ran in it."""

from __future__ import annotations

import ctypes

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge_wasm.reset import Baseline, Segment
from weighbridge_wasm.reset.baseline import PAGE
from weighbridge_wasm.reset.trial import scratch

PAGES = 12


@attrs.frozen
class Data:
    offset: int | None
    content: bytes


def rebuilt(baseline: Baseline) -> bytes:
    """The whole memory that a baseline describes."""
    memory = bytearray()
    for start, stop, source in baseline.pieces(0, baseline.nbytes):
        assert start == len(memory)
        memory += ctypes.string_at(source, stop - start) if source else bytes(stop - start)
    return bytes(memory)


def laid_out(segments: list[Data], nbytes: int) -> bytes:
    """The same by the plain way."""
    memory = bytearray(nbytes)
    for segment in segments:
        assert segment.offset is not None
        memory[segment.offset : segment.offset + len(segment.content)] = segment.content
    return bytes(memory)


contents = st.one_of(
    st.binary(max_size=40),
    st.integers(0, 3 * PAGE).map(bytes),
    st.integers(1, 3 * PAGE).map(lambda count: b"\x07" * count),
)
data = st.builds(Data, st.integers(0, (PAGES - 3) * PAGE), contents)


@given(st.lists(data, max_size=6))
@settings(deadline=None)
def test_baseline_of_segments_is_the_memory_that_they_fill(segments: list[Data]) -> None:
    """Segments that overlap, touch, cross pages or are empty give what writing them in order gives."""
    assert rebuilt(Baseline.of(segments, PAGES * PAGE)) == laid_out(segments, PAGES * PAGE)


@given(st.lists(data, max_size=6), st.integers(0, PAGES), st.integers(0, PAGES))
@settings(deadline=None)
def test_pieces_of_a_run_are_the_memory_of_that_run(segments: list[Data], one: int, other: int) -> None:
    """A run of pages is cut into pieces without a gap, and each says what belongs there."""
    start, stop = min(one, other) * PAGE, max(one, other) * PAGE
    baseline = Baseline.of(segments, PAGES * PAGE)
    pieces = baseline.pieces(start, stop)
    memory = b"".join(
        ctypes.string_at(source, last - first) if source else bytes(last - first) for first, last, source in pieces
    )
    assert memory == laid_out(segments, PAGES * PAGE)[start:stop]
    assert [first for first, _, _ in pieces[1:]] == [last for _, last, _ in pieces[:-1]]


@given(st.lists(data, max_size=6))
@settings(deadline=None)
def test_captured_memory_is_kept_as_it_is(segments: list[Data]) -> None:
    """Without a word from the kernel the whole memory is read, and its pages that are not zero are kept."""
    wanted = laid_out(segments, PAGES * PAGE)
    with scratch(PAGES * PAGE) as (address, memory):
        memory[:] = wanted
        assert rebuilt(Baseline.captured(address, PAGES * PAGE)) == wanted


@given(st.lists(data, max_size=4), st.sets(st.integers(0, PAGES - 1)))
@settings(deadline=None)
def test_captured_memory_is_kept_where_it_was_written_to(segments: list[Data], pages: set[int]) -> None:
    """With the runs that were written to, those and the pages below segments are kept."""
    wanted = bytearray(laid_out(segments, PAGES * PAGE))
    for page in pages:
        wanted[page * PAGE + 3] ^= 0x55
    with scratch(PAGES * PAGE) as (address, memory):
        memory[:] = bytes(wanted)
        written = [(page * PAGE, (page + 1) * PAGE) for page in sorted(pages)]
        assert rebuilt(Baseline.captured(address, PAGES * PAGE, segments, written)) == wanted


def test_page_that_a_start_function_cleared_is_kept() -> None:
    """A page of a segment that is zero now is no page of zeros: the image that is mapped there has the segment."""
    with scratch(4 * PAGE) as (address, _):
        baseline = Baseline.captured(address, 4 * PAGE, [Data(PAGE, b"gone")], [(PAGE, 2 * PAGE)])
        (_, (start, stop, source), _) = baseline.pieces(0, 4 * PAGE)
    assert (start, stop) == (PAGE, 2 * PAGE)
    assert ctypes.string_at(source, PAGE) == bytes(PAGE)


def test_segment_without_a_constant_offset_describes_nothing_but_is_captured() -> None:
    """Where a segment goes is not known before the module runs; afterwards it is in the memory."""
    moving: list[Segment] = [Data(None, b"somewhere")]
    with pytest.raises(ValueError, match="constant offset"):
        Baseline.of(moving, PAGE)
    with scratch(2 * PAGE) as (address, memory):
        memory[7:16] = b"somewhere"
        assert rebuilt(Baseline.captured(address, 2 * PAGE, moving))[7:16] == b"somewhere"


def test_segment_beyond_the_memory_is_refused() -> None:
    """Such a module traps when it is instantiated, so there is no such memory."""
    with pytest.raises(ValueError, match=f"ends at {PAGE + 1:,} of {PAGE:,} bytes"):
        Baseline.of([Data(PAGE - 3, b"1234")], PAGE)


@pytest.mark.parametrize("nbytes", [-PAGE, 123, PAGE + 1])
def test_part_of_a_page_is_no_memory(nbytes: int) -> None:
    """The kernel knows whole pages only."""
    with pytest.raises(ValueError, match="whole pages"):
        Baseline.of([], nbytes)


def test_large_memory_costs_what_is_in_it() -> None:
    """A memory of nearly 4 GiB with something at both ends is two pages."""
    nbytes = 65_535 << 16
    baseline = Baseline.of([Data(5, b"low"), Data(nbytes - 4, b"high")], nbytes)
    assert baseline.kept_bytes == 2 * PAGE
    assert [source != 0 for _, _, source in baseline.pieces(0, nbytes)] == [True, False, True]
    assert repr(baseline) == f"Baseline({2 * PAGE:,} of {nbytes:,} bytes in 2 runs)"


def test_pages_of_zeros_within_a_segment_cost_nothing() -> None:
    """A compiler writes tables that are mostly zero; only their other pages are kept."""
    content = b"\x01" + bytes(9 * PAGE) + b"\x02"
    assert Baseline.of([Data(0, content)], PAGES * PAGE).kept_bytes == 2 * PAGE


def test_memory_without_pages_has_a_baseline() -> None:
    """A module may declare a memory of no pages."""
    assert Baseline.of([], 0).pieces(0, 0) == []
