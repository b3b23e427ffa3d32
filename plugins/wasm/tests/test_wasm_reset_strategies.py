"""Every way from dirty to pristine, to the byte."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from typing import TypeAlias

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weighbridge_wasm.reset import Baseline, Resetter, open_resetter
from weighbridge_wasm.reset.baseline import PAGE
from weighbridge_wasm.reset.trial import scratch

PAGES = 32
NBYTES = PAGES * PAGE
KEEP = 5 * PAGE
WAYS = ("pagemap", "madvise", "copy")
Writes: TypeAlias = list[tuple[int, bytes]]


@attrs.frozen
class Data:
    offset: int
    content: bytes


@pytest.fixture(params=WAYS)
def resetter(request: pytest.FixtureRequest) -> Iterator[Resetter]:
    """Each strategy, the better ones switched off; it keeps little, so that the tail is given back too."""
    with open_resetter(WAYS[: WAYS.index(request.param)], keep_bytes=KEEP) as opened:
        if opened.strategy != request.param:
            pytest.skip(opened.evidence)
        yield opened


def changed(write: tuple[int, bytes]) -> tuple[int, bytes]:
    """The same write, within the memory."""
    place, content = write
    return min(place, NBYTES - len(content)), content


contents = st.one_of(
    st.binary(min_size=1, max_size=30),
    st.integers(1, NBYTES).map(lambda count: b"\xa5" * count),
    st.integers(1, NBYTES).map(bytes),
)
writes = st.lists(st.tuples(st.integers(0, NBYTES - 1), contents).map(changed), max_size=8)
reads = st.lists(st.integers(0, NBYTES - 1), max_size=8)
rounds = settings(
    deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # the resetter is meant to be used again


def fresh(segments: Writes) -> bytes:
    memory = bytearray(NBYTES)
    for place, content in segments:
        memory[place : place + len(content)] = content
    return bytes(memory)


def use(memory: mmap.mmap, dirt: Writes, looks: list[int]) -> None:
    for place in looks:
        memory[place]
    for place, content in dirt:
        memory[place : place + len(content)] = content


@given(segments=writes, dirt=st.lists(st.tuples(writes, reads), min_size=1, max_size=3), image=st.booleans())
@rounds
def test_reset_memory_is_as_fresh(
    resetter: Resetter, segments: Writes, dirt: list[tuple[Writes, list[int]]], image: bool
) -> None:
    """Whatever was written and read, again and again, on an image or on copied data, every byte is back."""
    wanted = fresh(segments)
    baseline = Baseline.of([Data(*segment) for segment in segments], NBYTES)
    with scratch(NBYTES, wanted if image else None) as (address, memory):
        if not image:
            use(memory, segments, [])
        for dirty, looks in dirt:
            use(memory, dirty, looks)
            resetter.reset(address, NBYTES, baseline)
            assert memory[:] == wanted


@given(segments=writes, before=writes, dirt=writes, image=st.booleans())
@rounds
def test_captured_memory_comes_back(
    resetter: Resetter, segments: Writes, before: Writes, dirt: Writes, image: bool
) -> None:
    """What a start function left, over an image or over zeros, is what a reset restores."""
    wanted = fresh([*segments, *before])
    with scratch(NBYTES, fresh(segments) if image else None) as (address, memory):
        use(memory, before if image else [*segments, *before], [])
        baseline = resetter.capture(address, NBYTES, [Data(*segment) for segment in segments])
        use(memory, dirt, [])
        resetter.reset(address, NBYTES, baseline)
        assert memory[:] == wanted


def test_untouched_memory_stays_as_it_is(resetter: Resetter) -> None:
    """A reset of a memory that nobody used changes nothing."""
    wanted = fresh([(PAGE - 1, b"between two pages")])
    with scratch(NBYTES, wanted) as (address, memory):
        resetter.reset(address, NBYTES, Baseline.of([Data(PAGE - 1, b"between two pages")], NBYTES))
        assert memory[:] == wanted


def test_reset_leaves_the_neighbours_alone(resetter: Resetter) -> None:
    """Only the memory that was named is reset, and not the page before or behind it."""
    with scratch(NBYTES) as (address, memory):
        memory[:] = b"\x11" * NBYTES
        resetter.reset(address + PAGE, NBYTES - 2 * PAGE, Baseline.of([], NBYTES - 2 * PAGE))
        assert memory[:] == b"\x11" * PAGE + bytes(NBYTES - 2 * PAGE) + b"\x11" * PAGE


def test_memory_without_pages_is_reset(resetter: Resetter) -> None:
    """There is nothing to do."""
    with scratch(PAGE) as (address, _):
        assert resetter.reset(address, 0, Baseline.of([], 0)) == 0


def test_memory_of_another_size_is_refused(resetter: Resetter) -> None:
    """A memory that grew cannot be reset: a baseline knows nothing of its new pages."""
    baseline = Baseline.of([], PAGE)
    with scratch(2 * PAGE) as (address, memory):
        memory[0] = 7
        with pytest.raises(ValueError, match="not for"):
            resetter.reset(address, 2 * PAGE, baseline)
        with pytest.raises(ValueError, match="not for"):
            resetter.reset(address + 8, PAGE, baseline)
        assert memory[0] == 7


@pytest.mark.parametrize("lock", [False, True], ids=["the call", "memset instead"])
def test_tail_is_given_back_where_the_kernel_takes_it(lock: bool, pagemap: Callable[..., Resetter]) -> None:
    """Beyond what is kept, pages of zeros leave the process; where the kernel refuses that, they are cleared."""
    given: list[int] = []

    def advise(address: int, nbytes: int) -> None:
        given.append(nbytes)
        if lock:
            raise OSError(22, "Invalid argument")
        advise_here(address, nbytes)

    from weighbridge_wasm.reset import advise_dont_need

    advise_here = advise_dont_need()
    resetter = pagemap(advise)
    with scratch(NBYTES) as (address, memory):
        memory[:] = b"\x22" * NBYTES
        assert resetter.reset(address, NBYTES, Baseline.of([], NBYTES)) == NBYTES
        kept = resetter.dirty_runs(address, NBYTES)
        assert memory[:] == bytes(NBYTES)
    assert given == [NBYTES - KEEP]
    assert kept == [(0, NBYTES if lock else KEEP)]


@pytest.fixture
def pagemap() -> Iterator[Callable[..., Resetter]]:
    """Makes a resetter that scans, with its own way to give pages back."""
    from weighbridge_wasm.reset import DirtyPages, PagemapReset

    with open_resetter() as here:
        if here.strategy != "pagemap":
            pytest.skip(here.evidence)
    opened: list[Resetter] = []

    def make(advise: Callable[[int, int], None]) -> Resetter:
        opened.append(Resetter(PagemapReset(DirtyPages(), advise, KEEP), "made by a test"))
        return opened[-1]

    yield make
    for resetter in opened:
        resetter.close()
