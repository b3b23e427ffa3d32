"""Which pages were written to, as the kernel tells it."""

from __future__ import annotations

import mmap
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weighbridge_wasm.reset import Baseline, DirtyPages, open_resetter
from weighbridge_wasm.reset.baseline import PAGE
from weighbridge_wasm.reset.resetter import MOST_READ_BYTES
from weighbridge_wasm.reset.trial import scratch

PAGES = 64
NBYTES = PAGES * PAGE
HUGE = 2 << 20


@pytest.fixture(params=[256, 3], ids=["long vector", "short vector"])
def dirty(request: pytest.FixtureRequest) -> Iterator[DirtyPages]:
    """A scanner, once with a vector that fills all the time."""
    with open_resetter() as resetter:
        if resetter.strategy != "pagemap":
            pytest.skip(resetter.evidence)
    pages = DirtyPages(request.param)
    yield pages
    pages.close()


def pages_of(runs: list[tuple[int, int]]) -> set[int]:
    """Numbers of the pages in runs that neither overlap nor come back."""
    assert runs == sorted(runs)
    found = [page for start, stop in runs for page in range(start // PAGE, stop // PAGE)]
    assert len(found) == len(set(found))
    return set(found)


@given(st.sets(st.integers(0, PAGES - 1)), st.sets(st.integers(0, PAGES - 1)), st.booleans())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_exactly_the_pages_written_to_are_told(
    dirty: DirtyPages, written: set[int], looked_at: set[int], image: bool
) -> None:
    """Pages that were only read, of an image or of zeros, and pages that nobody touched are not among them."""
    with scratch(NBYTES, b"\x33" * NBYTES if image else None) as (address, memory):
        for page in looked_at:
            memory[page * PAGE + 8]
        for page in written:
            memory[page * PAGE + 5] = 1
        found, read = dirty.scan(address, NBYTES)
        assert pages_of(found) == pages_of(dirty.runs(address, NBYTES)) == written
        assert pages_of(read) == (set() if image else looked_at - written)


def test_runs_are_counted_from_the_address(dirty: DirtyPages) -> None:
    """A part of a mapping can be asked about, and what lies around it does not count."""
    with scratch(NBYTES) as (address, memory):
        memory[:] = b"\x44" * NBYTES
        assert pages_of(dirty.runs(address + 3 * PAGE, 4 * PAGE)) == set(range(4))


def test_neighbours_are_one_run(dirty: DirtyPages) -> None:
    """Pages side by side come as one run, so that one copy restores them."""
    with scratch(NBYTES) as (address, memory):
        memory[2 * PAGE : 9 * PAGE] = b"\x55" * 7 * PAGE
        assert dirty.runs(address, NBYTES) == [(2 * PAGE, 9 * PAGE)]


def test_scan_makes_nothing_resident(dirty: DirtyPages) -> None:
    """A memory of 1 GiB that holds one page still holds one page after a reset."""
    nbytes = 1 << 30
    with open_resetter() as resetter, scratch(nbytes) as (address, memory):
        memory[nbytes - 1] = 1
        before = resident_bytes()
        assert resetter.reset(address, nbytes, Baseline.of([], nbytes)) == PAGE
        assert dirty.runs(address, nbytes) == [(nbytes - PAGE, nbytes)]
        assert resident_bytes() - before < 123 * PAGE
        assert memory[nbytes - 1] == 0


@pytest.mark.parametrize("is_much", [False, True], ids=["little", "much"])
def test_much_that_was_only_read_is_given_back(dirty: DirtyPages, is_much: bool) -> None:
    """A guest that reads all of a large memory once does not make every later scan look at all of it."""
    nbytes = MOST_READ_BYTES + 123 * PAGE
    with open_resetter() as resetter, scratch(nbytes) as (address, memory):
        memory[5 * PAGE] = 1
        memory.find(b"x", 0, nbytes if is_much else 9 * PAGE)
        resetter.reset(address, nbytes, Baseline.of([], nbytes))
        written, read = dirty.scan(address, nbytes)
        assert pages_of(written) == {5}
        assert pages_of(read) == (set() if is_much else set(range(9)) - {5})
        assert memory[5 * PAGE] == 0


def resident_bytes() -> int:
    """Pages of this process that are in memory (proc_pid_statm(5))."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def test_huge_page_counts_as_a_whole_and_is_reset(dirty: DirtyPages) -> None:
    """One byte in a transparent huge page makes all of it dirty, and every byte of it comes back."""
    with scratch(3 * HUGE) as (address, memory):
        memory.madvise(mmap.MADV_HUGEPAGE)
        first = -address % HUGE
        memory[first + 5 * PAGE] = 1
        told = pages_of(dirty.runs(address, 3 * HUGE))
        if len(told) == 1:
            pytest.skip("this kernel gave no huge page")
        assert told == set(range(first // PAGE, (first + HUGE) // PAGE))
        memory[first : first + HUGE] = b"\x66" * HUGE
        with open_resetter() as resetter:
            assert resetter.reset(address, 3 * HUGE, Baseline.of([], 3 * HUGE)) == HUGE
        assert memory[:] == bytes(3 * HUGE)


def test_threads_ask_at_once(dirty: DirtyPages) -> None:
    """Eight threads with a memory each get the answer of their own memory, four hundred times."""
    wrong: list[object] = []

    def ask(number: int) -> None:
        with scratch(NBYTES) as (address, memory):
            written = set(range(number, PAGES, 9))
            for page in written:
                memory[page * PAGE] = 1
            for _ in range(50):
                found = pages_of(dirty.runs(address, NBYTES))
                if found != written:
                    wrong.append((number, found))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_forked_process_is_told_of_its_own_pages(dirty: DirtyPages) -> None:
    """The parent's descriptor names the parent; a child that scans opens one of its own, and both stay right."""
    with scratch(NBYTES) as (address, memory):
        memory[0] = 1
        assert pages_of(dirty.runs(address, NBYTES)) == {0}
        child = os.fork()
        if child == 0:
            answer = 1
            try:
                memory[7 * PAGE] = 1
                answer = 0 if pages_of(dirty.runs(address, NBYTES)) == {0, 7} else 2
            finally:
                os._exit(answer)
        memory[9 * PAGE] = 1
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert pages_of(dirty.runs(address, NBYTES)) == {0, 9}


def test_closed_scanner_says_so(dirty: DirtyPages) -> None:
    """Closing twice is closing once, and nothing is asked of a descriptor that may be another file by now."""
    dirty.close()
    dirty.close()
    with pytest.raises(ValueError, match="closed"):
        dirty.runs(PAGE, PAGE)


def test_no_descriptor_is_left() -> None:
    """Fifty resetters, opened, used and closed, leave as many descriptors as before."""
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("descriptors cannot be counted here")

    def round_trip() -> None:
        with open_resetter() as resetter, scratch(PAGE) as (address, _):
            resetter.reset(address, PAGE, Baseline.of([], PAGE))

    round_trip()
    before = len(list(folder.iterdir()))
    for _ in range(50):
        round_trip()
    assert len(list(folder.iterdir())) == before
