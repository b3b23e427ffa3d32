"""Slabs: what is put in comes out, what goes goes whole, and the memory really leaves."""

from __future__ import annotations

import ctypes
import gc
import json
import mmap
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from weighbridge_hookspecs import ConfigurationError, ContextClosed

from weighbridge_balloon.pages import HUGE, PosixPages, trim
from weighbridge_balloon.slabs import SlabCache

MIB = 1024 * 1024


class Memory:
    """Pages of ordinary memory that knows what is taken; it may be scarce."""

    def __init__(self, most: int = 2**40) -> None:
        self.most = most
        self.taken: dict[int, Any] = {}

    @property
    def nbytes(self) -> int:
        return sum(len(block) for block in self.taken.values())

    def take(self, nbytes: int) -> int:
        if self.nbytes + nbytes > self.most:
            raise MemoryError
        block = mmap.mmap(-1, nbytes)
        address = ctypes.addressof(ctypes.c_char.from_buffer(block))
        self.taken[address] = block
        return address

    def resident_bytes(self, address: int, nbytes: int) -> int:
        """The pages up to the last one with something in it."""
        used = len(bytes(self.taken[address]).rstrip(b"\0"))
        return -(-used // mmap.PAGESIZE) * mmap.PAGESIZE

    def give_back(self, address: int, nbytes: int) -> bool:
        assert len(self.taken[address]) == nbytes
        del self.taken[address]
        return True


class Account:
    """Charges, as ``context.charge`` takes them."""

    def __init__(self) -> None:
        self.nbytes = 0

    def charge(self, nbytes: int, label: str) -> Charge:
        self.nbytes += nbytes
        return Charge(self, nbytes)


class Charge:
    def __init__(self, account: Account, nbytes: int) -> None:
        self.account, self.nbytes = account, nbytes

    def release(self) -> None:
        self.account.nbytes -= self.nbytes
        self.nbytes = 0


@pytest.fixture
def memory() -> Iterator[Memory]:
    made = Memory()
    yield made
    gc.collect()
    assert made.taken == {}, "a test left slabs behind"


def filled(memory: Memory, slabs: int, *, max_slabs: int = 16, each: int = 256 * 1024) -> SlabCache:
    """A cache with so many full slabs of eight values each."""
    cache = SlabCache(max_slabs * HUGE, pages=memory)
    for number in range(slabs * (HUGE // each)):
        cache.put(number, bytes([number % 255 + 1]) * each)
    return cache


def test_value_comes_out_as_it_was_put_in(memory: Memory) -> None:
    """Anything with a buffer, an empty one as well; what comes out is a copy."""
    cache = SlabCache(HUGE, pages=memory)
    for key, value in {"bytes": b"one", "bytearray": bytearray(b"two"), "view": memoryview(b"three"), "": b""}.items():
        assert cache.put(key, value)
        assert cache.get(key) == bytes(value)
    assert cache.get("missing") is None
    assert cache.get("missing", 5) == 5
    assert len(cache) == 4
    assert "view" in cache


def test_value_that_is_put_again_replaces_the_old_one(memory: Memory) -> None:
    """Longer or shorter."""
    cache = SlabCache(HUGE, pages=memory)
    cache.put("key", b"a" * 100)
    cache.put("key", b"b" * 5)
    assert cache.get("key") == b"bbbbb"
    assert cache.statistics().value_bytes == 5


def test_value_is_read_into_a_buffer(memory: Memory) -> None:
    """At its beginning, and no further than its length; one that is too short is an error, not half a value."""
    cache = SlabCache(HUGE, pages=memory)
    cache.put("key", b"value")
    room = bytearray(b"........")
    assert cache.read_into("key", room) == 5
    assert room == b"value..."
    assert cache.read_into("missing", room) is None
    with pytest.raises(ValueError, match="the value has 5 bytes, and the buffer 4"):
        cache.read_into("key", bytearray(4))


def test_cache_never_takes_more_than_its_bound(memory: Memory) -> None:
    """Others make room, a slab at a time."""
    cache = filled(memory, slabs=20, max_slabs=4)
    statistics = cache.statistics()
    assert memory.nbytes == statistics.slab_bytes == 4 * HUGE
    assert statistics.evicted == 16 * 8
    assert cache.get(19 * 8) is not None


def test_large_value_has_a_slab_of_its_own(memory: Memory) -> None:
    """Of as many times 2 MiB as it takes; it goes whole as well."""
    cache = SlabCache(8 * HUGE, pages=memory)
    value = os.urandom(3 * MIB)
    assert cache.put("large", value)
    assert cache.get("large") == value
    assert memory.nbytes == 2 * HUGE
    assert 3 * MIB - mmap.PAGESIZE <= cache.trim(1) <= 3 * MIB
    assert cache.get("large") is None


def test_value_larger_than_the_cache_is_not_kept(memory: Memory) -> None:
    """Nor is what its key had before, which would be wrong; nobody else goes for it."""
    cache = filled(memory, slabs=1, max_slabs=2)
    assert not cache.put(0, bytes(2 * HUGE + 1))
    assert cache.get(0) is None
    assert len(cache) == 7
    assert cache.statistics().rejected == 1


def test_value_for_which_there_is_no_memory_is_not_kept() -> None:
    """A cache does without it."""
    memory = Memory(most=HUGE)
    cache = filled(memory, slabs=1)
    assert not cache.put("more", bytes(HUGE))
    assert cache.get(3) is not None
    cache.release()


def test_trim_lets_whole_slabs_go(memory: Memory) -> None:
    """As many as are needed and not one more, and says by how much."""
    cache = filled(memory, slabs=6)
    assert cache.trim(0) == 0
    assert cache.trim(HUGE + 1) == 2 * HUGE
    assert memory.nbytes == 4 * HUGE
    assert len(cache) == 4 * 8
    assert cache.statistics().released_bytes == 2 * HUGE
    assert cache.trim(100 * HUGE) == 4 * HUGE
    assert (len(cache), memory.nbytes, cache.trim(1)) == (0, 0, 0)


def test_slab_that_was_used_least_goes_first(memory: Memory) -> None:
    """Hits decide, wherever in the slab they were."""
    cache = filled(memory, slabs=4)
    for number in (0, 1, 16, 17, 18, 24):
        cache.get(number)
    cache.trim(HUGE)
    assert [number in cache for number in (0, 8, 16, 24)] == [True, False, True, True]
    cache.trim(HUGE)
    assert [number in cache for number in (0, 16, 24)] == [True, True, False]


def test_popularity_of_long_ago_does_not_last(memory: Memory) -> None:
    """Uses count half with each slab that goes."""
    cache = filled(memory, slabs=2, max_slabs=3)
    for _ in range(40):
        cache.get(0)
    for number in range(1000, 1200):
        cache.put(number, b"x" * 256 * 1024)
    assert 0 not in cache


def test_empty_slab_goes_before_all_others(memory: Memory) -> None:
    """It costs nobody a value."""
    cache = filled(memory, slabs=3)
    for _ in range(20):
        cache.get(8)
    for number in range(8, 16):
        cache.discard(number)
    assert cache.trim(1) == HUGE
    assert len(cache) == 16


def test_slab_that_was_hardly_written_counts_for_what_was(memory: Memory) -> None:
    """The rest of it was never in memory."""
    cache = SlabCache(4 * HUGE, pages=memory)
    cache.put("small", b"x" * 10)
    assert cache.trim(1) == mmap.PAGESIZE


def test_holes_are_filled_again(memory: Memory) -> None:
    """Values that are replaced over and over stay in the slab they have."""
    cache = SlabCache(8 * HUGE, pages=memory)
    for turn in range(300):
        cache.put(turn % 3, bytes([turn % 256]) * 200_000)
    assert memory.nbytes <= 2 * HUGE
    assert [cache.get(key) for key in range(3)] == [bytes([(297 + key) % 256]) * 200_000 for key in range(3)]


def test_discarded_value_is_gone(memory: Memory) -> None:
    """Once."""
    cache = filled(memory, slabs=1)
    assert cache.discard(3)
    assert not cache.discard(3)
    assert 3 not in cache


def test_released_cache_takes_nothing(memory: Memory) -> None:
    """Its memory is gone, its lease is given back, reading finds nothing, and releasing again does nothing."""
    cache, account = filled(memory, slabs=2), Account()
    cache.lease = account.charge(1, "lease")
    cache.release()
    cache.release()
    assert (memory.nbytes, account.nbytes, cache.get(0)) == (0, 0, None)
    with pytest.raises(ContextClosed):
        cache.put("key", b"value")


def test_cleared_cache_goes_on(memory: Memory) -> None:
    """Everything is gone, and it takes new values."""
    cache = filled(memory, slabs=2)
    cache.clear()
    assert memory.nbytes == 0
    assert cache.put("key", b"value")


def test_dropped_cache_gives_its_memory_back(memory: Memory) -> None:
    """Without a word and without the collector."""
    cache = filled(memory, slabs=2)
    watched = weakref.ref(cache)
    del cache
    assert watched() is None
    assert memory.taken == {}


def test_slabs_are_on_the_account(memory: Memory) -> None:
    """Each for as long as it is there; and one that could not be had is not."""
    account = Account()
    memory.most = 3 * HUGE
    cache = SlabCache(8 * HUGE, charge=account.charge, pages=memory)
    for number in range(6 * 8):
        cache.put(number, b"x" * 256 * 1024)
    assert account.nbytes == memory.nbytes == 3 * HUGE
    cache.trim(HUGE)
    assert account.nbytes == memory.nbytes == 2 * HUGE
    del cache
    assert account.nbytes == 0


@pytest.mark.parametrize("size", [HUGE - 1, 0, -5, True, 1e9, "large"])
def test_cache_without_room_for_a_slab_is_refused(size: Any) -> None:
    """And so is what is no number; the advice says what to give."""
    with pytest.raises(ConfigurationError, match="Give 2 MiB"):
        SlabCache(cast(int, size))


def test_finalizer_in_the_middle_of_a_call_gets_nothing(memory: Memory) -> None:
    """It must not free the slab that is being copied from: it finds nothing, keeps nothing and releases nothing."""
    cache = filled(memory, slabs=1)
    seen: list[object] = []

    class Key:
        """Compared in the middle of a look-up, as a finalizer may run there."""

        def __hash__(self) -> int:
            return hash(0)

        def __eq__(self, other: object) -> bool:
            seen.extend([cache.trim(HUGE), cache.get(1), cache.put("new", b""), cache.discard(1)])
            return other == 0

    assert cache.get(Key()) == b"\1" * 256 * 1024
    assert seen[:4] == [0, None, False, False]
    assert len(cache) == 8


def test_threads_find_what_they_put_or_nothing(memory: Memory) -> None:
    """Values never mix, and the books agree in the end."""
    cache = SlabCache(4 * HUGE, pages=memory)
    wrong: list[object] = []

    def work(mine: int) -> None:
        for turn in range(300):
            key = (mine, turn % 10)
            cache.put(key, bytes([mine]) * (turn * 400))
            found = cache.get(key)
            if found is not None and set(found) - {mine}:
                wrong.append((mine, turn))
            if turn % 50 == mine:
                cache.trim(HUGE)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statistics = cache.statistics()
    assert wrong == []
    assert statistics.puts == 1800
    assert statistics.slab_bytes == memory.nbytes <= 4 * HUGE


class Course(RuleBasedStateMachine):
    """Any course of calls beside a dictionary that forgets nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = Memory()
        self.cache = SlabCache(3 * HUGE, pages=self.memory)
        self.known: dict[int, bytes] = {}

    @rule(
        key=st.integers(0, 30), length=st.sampled_from([0, 1, 4095, 70_000, 500_000, HUGE, HUGE + 1, 5 * MIB, 9 * MIB])
    )
    def put(self, key: int, length: int) -> None:
        value = bytes([(key * 7 + length) % 255 + 1]) * length
        self.known.pop(key, None)
        if self.cache.put(key, value):
            self.known[key] = value
            assert self.cache.get(key) == value
        else:
            assert length > 3 * HUGE
            assert key not in self.cache

    @rule(key=st.integers(0, 30))
    def get(self, key: int) -> None:
        found = self.cache.get(key)
        assert found is None or found == self.known[key]

    @rule(key=st.integers(0, 30))
    def discard(self, key: int) -> None:
        was_there = key in self.cache
        assert self.cache.discard(key) == was_there
        self.known.pop(key, None)

    @precondition(lambda self: len(self.cache) > 0)
    @rule(nbytes=st.integers(1, 3 * HUGE))
    def trim(self, nbytes: int) -> None:
        before = self.memory.nbytes
        released = self.cache.trim(nbytes)
        assert before - self.memory.nbytes >= released
        assert released >= nbytes or len(self.cache) == 0

    @invariant()
    def books_agree(self) -> None:
        statistics = self.cache.statistics()
        assert statistics.slab_bytes == self.memory.nbytes <= 3 * HUGE
        assert statistics.value_bytes == sum(len(self.known[key]) for key in self.known if key in self.cache)
        assert statistics.entries == len(self.cache)


Course.TestCase.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
test_course = Course.TestCase


# -- real memory -------------------------------------------------------------------------------------------------------


def test_block_is_aligned_and_writable() -> None:
    """To 2 MiB, and every byte of it can be used."""
    pages = PosixPages()
    for count in (1, 3):
        address = pages.take(count * HUGE)
        assert address % HUGE == 0
        assert pages.resident_bytes(address, count * HUGE) == 0
        block = (ctypes.c_char * (count * HUGE)).from_address(address)
        block[0] = block[count * HUGE - 1] = b"x"
        assert mmap.PAGESIZE <= pages.resident_bytes(address, count * HUGE) <= count * HUGE
        assert pages.give_back(address, count * HUGE)


def test_block_that_the_system_does_not_have_is_an_error() -> None:
    """More than there are addresses."""
    with pytest.raises(MemoryError):
        PosixPages().take(2**62)


class Full:
    """A C library whose process is at its limit of mappings."""

    def __init__(self) -> None:
        self.advised: list[tuple[object, ...]] = []
        self.mmap = self.munmap = self.madvise = self._Function(lambda *arguments: 0)
        self.munmap = self._Function(lambda *arguments: -1)
        self.mincore = self._Function(lambda *arguments: -1)
        self.madvise = self._Function(self._advise)

    def _advise(self, *arguments: object) -> int:
        self.advised.append(arguments)
        return 0

    class _Function:
        def __init__(self, call: Any) -> None:
            self._call = call

        def __call__(self, *arguments: object) -> Any:
            return self._call(*arguments)


def test_block_that_cannot_be_unmapped_loses_its_pages() -> None:
    """The memory goes all the same, and the answer says that its place stays."""
    library = Full()
    assert not PosixPages(library).give_back(16 * HUGE, HUGE)
    assert PosixPages(library).resident_bytes(16 * HUGE, HUGE) == HUGE
    assert library.advised == [(16 * HUGE, HUGE, mmap.MADV_DONTNEED)]


def test_trim_knows_whether_it_did() -> None:
    """glibc answers yes or no; others cannot be asked."""
    assert trim() in (True, False, None)


CHILD = """
import json
from weighbridge_balloon.slabs import SlabCache

def resident():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096

cache = SlabCache(64 << 20)
before = resident()
for number in range(600):
    cache.put(number, bytes([number % 255 + 1]) * 100_000)
full = resident()
released = cache.trim(30 << 20)
print(json.dumps({"grown": full - before, "shrunk": full - resident(), "released": released}))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="there is no /proc")
def test_memory_really_leaves_the_process() -> None:
    """What a trim says it released is what the resident set shrinks by, to a page or two of others."""
    done = subprocess.run([sys.executable, "-c", CHILD], check=True, capture_output=True, text=True)
    figures = json.loads(done.stdout)
    assert figures["grown"] > 57 * MIB
    assert 30 * MIB <= figures["released"] <= 34 * MIB
    assert abs(figures["shrunk"] - figures["released"]) < MIB
