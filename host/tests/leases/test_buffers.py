"""The pool of buffers: exact lengths, no block in two hands, a ceiling that holds, and all of it back at the end."""

from __future__ import annotations

import ctypes
import gc
import io
import random
import socket
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from weighbridge_hookspecs import Buffers, CeilingExceeded, ConfigurationError, ContextClosed

from weighbridge.leases import buffer_ceiling
from weighbridge.leases import buffers as module
from weighbridge.leases.buffer_ceiling import BufferCeiling
from weighbridge.leases.buffers import BufferPool, size_of_block

KIB = 1024
MIB = 1024 * KIB
LENGTHS = st.one_of(st.sampled_from([0, 1, 1024, 1025, 4096, 4097, 8192, 8193]), st.integers(0, 12_000))
MODEL_CEILING = 40_000
MODEL_POOLED = 8192


def address(view: memoryview) -> int:
    """Where its memory is."""
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


def charged(nbytes: int, clear: bool) -> int:
    """What renting a new block of that length costs the model."""
    return min(size_of_block(nbytes), MODEL_POOLED) if 1025 <= nbytes <= MODEL_POOLED and not clear else nbytes


def is_over(view: memoryview) -> bool:
    """Whether using it raises."""
    try:
        view[0:1]
    except ValueError:
        return True
    return False


class Around:
    """What a pool's process looks like to it; whoever is asked for room gets the number of bytes."""

    def __init__(self, asked: Callable[[int], object] = lambda nbytes: None, occupied: int = -(1 << 40)) -> None:
        self.asked = asked
        self.occupied = occupied
        self.owners: list[str | None] = []
        self.handed_back = 0

    def usage_bytes(self) -> int:
        return self.occupied

    def hand_back(self) -> None:
        self.handed_back += 1

    def make_room(self, nbytes: int, owner: str | None) -> None:
        self.owners.append(owner)
        self.asked(nbytes)


class Loop:
    """A ring of references around something, which only the collector undoes."""

    def __init__(self, held: object) -> None:
        self.held = held
        self.itself = self


# --- against a model --------------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Hold:
    """A rental of the model: the ways in which it is held, and the byte it is filled with."""

    view: memoryview | None
    nbytes: int
    cost: int
    mark: int
    slices: list[memoryview] = attrs.field(factory=list)


class AgainstAModel(RuleBasedStateMachine):
    """Views, slices and what is dropped, beside a list of who holds what, each filled with a byte of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BufferPool(MODEL_CEILING, pool_max_array_bytes=MODEL_POOLED)
        self.held: list[Hold] = []
        self.rents = 0

    def used(self) -> int:
        return sum(hold.cost for hold in self.held)

    @rule(nbytes=LENGTHS, clear=st.booleans())
    def rent(self, nbytes: int, clear: bool) -> None:
        if self.used() + charged(nbytes, clear) > MODEL_CEILING:
            with pytest.raises(CeilingExceeded):
                self.pool.rent(nbytes, clear=clear)
            return
        view = self.pool.rent(nbytes, clear=clear)
        assert (view.nbytes, view.readonly, view.format, view.ndim) == (nbytes, False, "B", 1)
        mark = self.rents % 251 + 1
        view[:] = bytes([mark]) * nbytes
        self.rents += 1
        self.held.append(Hold(view, nbytes, charged(nbytes, clear), mark))

    def pick(self, data: st.DataObject) -> Hold | None:
        return data.draw(st.sampled_from(self.held)) if self.held else None

    @rule(data=st.data())
    def slice(self, data: st.DataObject) -> None:
        hold = self.pick(data)
        if hold is not None and hold.view is not None:
            hold.slices.append(hold.view[:3])

    @rule(data=st.data(), way=st.sampled_from(["with", "release", "drop"]))
    def give_back(self, data: st.DataObject, way: str) -> None:
        hold = self.pick(data)
        if hold is None or hold.view is None:
            return
        view, hold.view = hold.view, None
        if way == "with":
            with view:
                pass
        elif way == "release":
            view.release()
        if way != "drop":
            with pytest.raises(ValueError, match="released"):
                view[0:1]
        if not hold.slices:
            self.held.remove(hold)

    @rule(data=st.data())
    def drop_slices(self, data: st.DataObject) -> None:
        hold = self.pick(data)
        if hold is not None:
            hold.slices.clear()
            if hold.view is None:
                self.held.remove(hold)

    @rule(nbytes=st.integers(0, MODEL_CEILING))
    def trim(self, nbytes: int) -> None:
        before = self.pool.statistics()
        freed = self.pool.trim(nbytes)
        assert freed >= min(nbytes, before.idle_bytes)
        assert self.pool.statistics().idle_bytes == before.idle_bytes - freed

    @invariant()
    def every_hold_has_its_own_bytes(self) -> None:
        for hold in self.held:
            for view in [*hold.slices, *([hold.view] if hold.view is not None else [])]:
                assert bytes(view) == bytes([hold.mark]) * len(view)

    @invariant()
    def counters_add_up(self) -> None:
        drawn, ceiling = self.pool.statistics(), self.pool.ceiling.statistics()
        assert (drawn.rented, drawn.rented_bytes) == (len(self.held), self.used())
        assert drawn.rents == drawn.returns + drawn.rented == self.rents
        assert drawn.made == drawn.dropped + drawn.rented + drawn.idle
        assert ceiling.used_bytes == drawn.rented_bytes + drawn.idle_bytes
        assert ceiling.peak_bytes <= MODEL_CEILING

    def teardown(self) -> None:
        views = [hold.view for hold in self.held if hold.view is not None]
        closure = self.pool.close()
        kept = [hold for hold in self.held if hold.slices]
        assert (closure.rented, closure.rented_bytes) == (len(self.held), self.used())
        assert closure.invalidated == len(views)
        assert (closure.kept, closure.kept_bytes) == (len(kept), sum(hold.cost for hold in kept))
        assert sorted(map(len, self.pool.remaining())) == sorted(hold.cost for hold in kept)
        for view in views:
            with pytest.raises(ValueError, match="released"):
                view[0:1]
        self.every_slice_is_intact(kept)
        for hold in kept:
            hold.slices.clear()
        drawn = self.pool.statistics()
        assert (drawn.rented, drawn.idle, self.pool.ceiling.used_bytes) == (0, 0, 0)
        assert drawn.rents == drawn.returns == self.rents

    def every_slice_is_intact(self, kept: list[Hold]) -> None:
        for hold in kept:
            for view in hold.slices:
                assert bytes(view) == bytes([hold.mark]) * len(view)


def test_pool_does_what_a_model_of_it_does() -> None:
    """Whatever is rented, sliced, returned, dropped and trimmed, nobody shares bytes and all counters add up."""
    run_state_machine_as_test(AgainstAModel, settings=settings(max_examples=40, stateful_step_count=30, deadline=None))


# --- lengths and blocks -----------------------------------------------------------------------------------------------


@given(st.integers(1025, 1 << 40))
def test_block_is_at_most_a_quarter_larger_than_what_is_asked_for(nbytes: int) -> None:
    """A block has room for the view, wastes less than a quarter of it, and a block of its size is of its own class."""
    size = size_of_block(nbytes)
    assert nbytes <= size < nbytes * 5 / 4
    assert size_of_block(size) == size


@pytest.mark.parametrize("nbytes", [1025, 4096, 5000, 64 * KIB, KIB * KIB])
def test_pooled_block_is_lent_again(nbytes: int) -> None:
    """A block that came back is the next one to be lent, and nothing is allocated for it."""
    pool = BufferPool()
    with pool.rent(nbytes) as view:
        first = address(view)
        view[-1] = 7
    for _ in range(3):
        with pool.rent(nbytes) as view:
            assert (address(view), view[-1]) == (first, 7)
    assert (pool.statistics().made, pool.statistics().rents) == (1, 4)


@pytest.mark.parametrize("nbytes", [0, 1, 1024, KIB * KIB + 1])
def test_short_and_long_buffers_are_plain_and_counted(nbytes: int) -> None:
    """What is at most 1 KiB, or longer than what is pooled, is on the account while it is rented and not afterwards."""
    pool = BufferPool()
    with pool.rent(nbytes) as view:
        assert bytes(view) == bytes(nbytes)
        assert pool.statistics().rented_bytes == pool.ceiling.used_bytes == nbytes
        assert pool.statistics().rented == 1
    drawn = pool.statistics()
    assert (drawn.rented, drawn.idle, drawn.dropped, pool.ceiling.used_bytes) == (0, 0, 1, 0)


def test_pool_of_nothing_allocates_each_time() -> None:
    """With a limit of 0 on what is pooled, every buffer is plain, and still counted."""
    pool = BufferPool(pool_max_array_bytes=0)
    for _ in range(3):
        with pool.rent(4096):
            assert pool.ceiling.used_bytes == 4096
    drawn = pool.statistics()
    assert (drawn.made, drawn.dropped, drawn.idle) == (3, 3, 0)


def test_block_is_never_longer_than_the_longest_that_is_pooled() -> None:
    """A limit between two sizes of blocks is a size of its own."""
    pool = BufferPool(pool_max_array_bytes=9000)
    with pool.rent(8500):
        assert pool.statistics().rented_bytes == 9000


def test_many_different_lengths_are_not_all_remembered() -> None:
    """The table of lengths that rent knows by itself is bounded."""
    pool = BufferPool()
    for nbytes in range(2000, 2000 + 3 * module._KNOWN_LENGTHS):
        pool.rent(nbytes).release()
    assert len(pool._known) <= module._KNOWN_LENGTHS
    assert pool.statistics().rents == 3 * module._KNOWN_LENGTHS


def test_order_of_return_does_not_make_more_blocks() -> None:
    """A pipeline that returns its oldest buffer first needs no more blocks than it holds at a time."""
    pool = BufferPool()
    held = [pool.rent(4096) for _ in range(5)]
    for _ in range(200):
        held.pop(0).release()
        held.append(pool.rent(4096))
    assert pool.statistics().made == 5


def test_no_more_than_an_eighth_is_made_beyond_what_is_held() -> None:
    """However many are held and in whichever order they come back, blocks made stay within an eighth of the need."""
    pool, chance = BufferPool(), random.Random(7)
    held = [pool.rent(4096) for _ in range(160)]
    for _ in range(5000):
        held.pop(chance.randrange(len(held))).release()
        held.append(pool.rent(4096))
    assert pool.statistics().made <= 160 + 160 // 8 + 1


def test_renting_many_takes_looks_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renting 1,000 and keeping them looks at some ten blocks for each, and not at all of those before it."""
    looks = 0

    def look(thing: object) -> int:
        nonlocal looks
        looks += 1
        return sys.getrefcount(thing) - 1  # without this argument

    monkeypatch.setattr(module, "getrefcount", look)
    pool = BufferPool()
    held = [pool.rent(4096) for _ in range(1000)]
    assert pool.statistics().rented == len(held)
    assert looks < 1000 * 40


def test_pool_is_what_the_contract_calls_buffers() -> None:
    """A pool can be used as the service of the contract."""
    buffers: Buffers = BufferPool()
    with buffers.rent(3000) as view:
        assert len(view) == 3000


# --- return, and what is kept beyond it -------------------------------------------------------------------------------


@pytest.mark.parametrize("nbytes", [100, 4096])
def test_use_and_entry_after_the_return_are_errors(nbytes: int) -> None:
    """Reading, writing, slicing and entering a view that came back raise ValueError, and harm nobody."""
    pool = BufferPool()
    view = pool.rent(nbytes)
    with view:
        pass
    with pool.rent(nbytes) as other:
        other[:] = b"x" * nbytes
        for use in (lambda: view[0], lambda: view.__setitem__(0, 1), lambda: view[:5], view.__enter__, view.tobytes):
            with pytest.raises(ValueError, match="released"):
                use()
        view.release()
        assert bytes(other) == b"x" * nbytes
        assert pool.statistics().rented == 1


@pytest.mark.parametrize("nbytes", [100, 4096])
def test_slice_that_was_kept_keeps_its_block(nbytes: int) -> None:
    """A block with a slice alive counts as rented and is not lent again until the slice goes."""
    pool = BufferPool()
    with pool.rent(nbytes) as view:
        kept = view[10:20]
    kept[:] = b"0123456789"
    with pool.rent(nbytes) as other:
        other[:] = bytes(nbytes)
        assert bytes(kept) == b"0123456789"
        assert pool.statistics().rented == 2
    assert pool.trim(1 << 20) == (4096 if nbytes == 4096 else 0)
    assert pool.statistics().rented == 1
    del kept
    assert pool.statistics().rented == 0


def test_array_made_of_a_view_keeps_its_block() -> None:
    """ctypes uses the memory after the view's release has passed without a complaint, and nobody else gets it."""
    pool = BufferPool()
    with pool.rent(4096) as view:
        array = (ctypes.c_char * 4096).from_buffer(view)
    with pool.rent(4096) as other:
        other[:] = b"x" * 4096
        array[0] = b"y"
        assert bytes(other) == b"x" * 4096
    closure = pool.close()
    assert (closure.rented, closure.invalidated, closure.kept, closure.kept_bytes) == (1, 0, 1, 4096)
    assert array[0] == b"y"
    del array
    assert pool.ceiling.used_bytes == 0


def test_return_under_a_read_is_refused() -> None:
    """A view that C code has borrowed at this moment cannot be ended; its block stays rented and comes back later."""
    pool = BufferPool()
    view = pool.rent(4096)
    held = (ctypes.c_char * 256)()  # a Py_buffer has 80 bytes
    assert ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(view), held, 0) == 0
    with pytest.raises(BufferError, match="export"):
        view.release()
    assert pool.statistics().rented == 1
    closure = pool.close()
    assert (closure.rented, closure.invalidated, closure.kept) == (1, 0, 1)
    ctypes.pythonapi.PyBuffer_Release(held)
    del view  # nothing but the view has it, so no collection is needed
    assert pool.ceiling.used_bytes == 0


@pytest.mark.parametrize("nbytes", [100, 4096, 2 * KIB * KIB])
def test_dropped_view_gives_its_block_back(nbytes: int) -> None:
    """Somebody who forgets a view has returned it."""
    pool = BufferPool()
    pool.rent(nbytes)
    assert pool.statistics().rented == 0


def test_block_of_a_dropped_view_is_lent_again() -> None:
    """Renting without ever returning, one at a time, needs one block."""
    pool = BufferPool()
    for _ in range(20):
        pool.rent(4096)
    assert pool.statistics().made == 1


def test_error_inside_a_with_block_returns_the_buffer() -> None:
    """What is raised while a buffer is rented passes, and the buffer is back."""
    pool = BufferPool()
    with pytest.raises(ZeroDivisionError), pool.rent(4096):
        _ = 1 // 0
    assert pool.statistics().rented == 0


@pytest.mark.parametrize("nbytes", [100, 4096, 3 * KIB * KIB])
@pytest.mark.parametrize("way", ["release", "drop", "close"])
def test_cleared_buffer_is_wiped_before_its_memory_goes(nbytes: int, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With clear=True every byte is zero when the memory is given up, however that comes about; without it, none is."""
    last: list[bytes] = []
    wipe = module._wipe

    def look(block: bytearray) -> None:
        wipe(block)
        last.append(bytes(block))

    monkeypatch.setattr(module, "_wipe", look)
    pool = BufferPool()
    pool.rent(nbytes)[:] = b"x" * nbytes
    view = pool.rent(nbytes, clear=True)
    view[:] = b"x" * nbytes
    assert not last
    if way == "release":
        view.release()
    elif way == "close":
        pool.close()
    else:
        del view
    assert last == [bytes(nbytes)]


# --- the ceiling ------------------------------------------------------------------------------------------------------


def test_rent_past_the_ceiling_says_used_wanted_and_ceiling() -> None:
    """The error has the three numbers and leaves everything as it was."""
    pool = BufferPool(10_000)
    with pool.rent(8192):
        with pytest.raises(
            CeilingExceeded, match="4096 bytes: 8192 bytes are in use and the ceiling is 10000"
        ) as caught:
            pool.rent(4096)
        error = caught.value
        assert (error.used_bytes, error.wanted_bytes, error.ceiling_bytes) == (8192, 4096, 10_000)
        assert pool.statistics().rented == 1
    with pool.rent(4096):
        assert pool.ceiling.statistics().refusals == 1


def test_idle_blocks_go_before_anybody_is_asked() -> None:
    """Idle memory of every pool under the ceiling makes room first, without a collection."""
    asked: list[int] = []
    ceiling = BufferCeiling(16 * KIB, Around(asked.append))
    first, second = BufferPool(ceiling), BufferPool(ceiling)
    first.rent(12 * KIB).release()
    with second.rent(8 * KIB):
        assert (first.statistics().idle, ceiling.used_bytes) == (0, 8 * KIB)
    assert (asked, ceiling.statistics().collections) == ([], 0)


def test_garbage_is_collected_before_others_are_asked() -> None:
    """A buffer that only a ring of references holds makes room."""
    asked: list[int] = []
    ceiling = BufferCeiling(16 * KIB, Around(asked.append))
    pool = BufferPool(ceiling)
    gc.collect()
    gc.disable()
    try:
        Loop(pool.rent(12 * KIB))
        with pool.rent(8 * KIB):
            assert ceiling.used_bytes == 8 * KIB
    finally:
        gc.enable()
    assert (asked, ceiling.statistics().collections) == ([], 1)


def test_full_collections_in_vain_do_not_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever tries again at once after a refusal stops nobody; what it dropped since is young, and is found."""
    monkeypatch.setattr(buffer_ceiling, "_PATIENCE_SECONDS", 3600.0)
    ceiling = BufferCeiling(16 * KIB)
    ceiling._in_vain_at = -3600.0
    pool = BufferPool(ceiling)
    with pool.rent(12 * KIB):
        before = gc.get_stats()[2]["collections"]
        for _ in range(50):
            with pytest.raises(CeilingExceeded):
                pool.rent(8 * KIB)
        assert ceiling.statistics().collections == 50
        assert gc.get_stats()[2]["collections"] - before == 1
    Loop(pool.rent(12 * KIB))
    with pool.rent(8 * KIB):
        assert ceiling.used_bytes == 8 * KIB


def test_others_are_asked_last_and_what_they_return_is_used() -> None:
    """The function is told how many bytes are wanted, and a buffer that it returns makes room."""
    asked: list[int] = []
    held: list[memoryview] = []

    def make_room(nbytes: int) -> None:
        asked.append(nbytes)
        held.pop().release()

    around = Around(make_room)
    pool = BufferPool(BufferCeiling(16 * KIB, around), owner="lamp")
    held.append(pool.rent(12 * KIB))
    with pool.rent(8 * KIB):
        assert asked == [8 * KIB]
    assert around.owners == ["lamp"]


def test_what_can_never_fit_disturbs_nobody() -> None:
    """A buffer larger than the ceiling is refused without dropping, collecting or asking."""
    asked: list[int] = []
    pool = BufferPool(BufferCeiling(16 * KIB, Around(asked.append)))
    pool.rent(4096).release()
    with pytest.raises(CeilingExceeded):
        pool.rent(17 * KIB)
    assert (asked, pool.statistics().idle, pool.ceiling.statistics().collections) == ([], 1, 0)


def test_process_without_room_refuses_what_the_account_would_allow() -> None:
    """What else the process occupies counts, and a free block is lent all the same, for it costs nothing."""
    around = Around(occupied=0)
    pool = BufferPool(BufferCeiling(64 * KIB, around))
    pool.rent(4096).release()
    around.occupied = 61 * KIB
    with pool.rent(4096), pytest.raises(CeilingExceeded) as caught:
        pool.rent(4096)
    error = caught.value
    assert (error.used_bytes, error.wanted_bytes, error.ceiling_bytes) == (61 * KIB, 4096, 64 * KIB)
    assert around.handed_back == 3


def test_what_others_allocate_at_this_moment_counts() -> None:
    """Two threads that both find room for one more do not both take it."""
    around = Around(occupied=0)
    ceiling = BufferCeiling(64 * KIB, around)
    with ceiling.taken(40 * KIB):
        with pytest.raises(CeilingExceeded), ceiling.taken(40 * KIB):
            pass
        with ceiling.taken(24 * KIB):
            pass
    around.occupied = 64 * KIB - 1
    with ceiling.taken(0), pytest.raises(CeilingExceeded), ceiling.taken(2):
        pass


def test_a_new_block_is_occupied_at_once() -> None:
    """Where the process counts, its pages are there before anybody writes to them: the next one who rents sees them."""
    around = Around(occupied=0)
    pool = BufferPool(BufferCeiling(256 * MIB, around), pool_max_array_bytes=0)
    before = psutil.Process().memory_info().rss
    with pool.rent(64 * MIB):
        assert psutil.Process().memory_info().rss - before > 60 * MIB


def test_error_of_make_room_reaches_the_renter_and_charges_nothing() -> None:
    """A function of the host that fails leaves the account as it was."""

    def fail(nbytes: int) -> None:
        raise OSError("no answer")

    pool = BufferPool(BufferCeiling(8 * KIB, Around(fail)))
    with pool.rent(8 * KIB), pytest.raises(OSError, match="no answer"):
        pool.rent(4096)
    assert pool.ceiling.trim(1 << 20) == 8 * KIB
    assert pool.ceiling.used_bytes == 0


def test_memory_that_the_system_refuses_is_not_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the allocation fails, idle blocks go and it is tried again; a MemoryError charges nothing."""
    block, fail = module._Block, [True, False]

    def allocate(size: int) -> Any:
        if fail.pop(0):
            raise MemoryError
        return block(size)

    pool = BufferPool()
    pool.rent(4096).release()
    monkeypatch.setattr(module, "_Block", allocate)
    with pool.rent(8192):
        assert (pool.statistics().idle, pool.ceiling.used_bytes) == (0, 8192)
    pool.trim(8192)
    fail[:] = [True]
    with pytest.raises(MemoryError):
        pool.rent(8192)
    assert pool.ceiling.used_bytes == 0


def test_lower_ceiling_drops_idle_blocks_and_waits_for_rented_ones() -> None:
    """A ceiling can change at run time; rented memory is not taken away, and nothing new fits until it is back."""
    pool = BufferPool(64 * KIB)
    pool.rent(16 * KIB).release()
    with pool.rent(32 * KIB):
        pool.ceiling.resize(20 * KIB)
        assert pool.ceiling.used_bytes == 32 * KIB
        with pytest.raises(CeilingExceeded):
            pool.rent(2 * KIB)
    with pool.rent(2 * KIB):
        assert pool.ceiling.used_bytes == 2 * KIB
    pool.ceiling.resize(None)
    assert pool.ceiling.ceiling_bytes is None


def test_pool_that_is_gone_leaves_nothing_on_the_account() -> None:
    """A pool dropped without close gives its idle blocks back, and what is rented when that goes."""
    ceiling = BufferCeiling(64 * KIB)
    pool = BufferPool(ceiling)
    view = pool.rent(4096)
    pool.rent(8192).release()
    gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert (gone(), ceiling.used_bytes) == (None, 4096)
    view.release()
    del view
    gc.collect()
    assert ceiling.used_bytes == 0
    assert ceiling.trim(1) == 0
    assert not ceiling._pools


# --- files and sockets ------------------------------------------------------------------------------------------------


def test_read_into_gives_what_the_file_had(tmp_path: Path) -> None:
    """Each read gives the filled part, an empty one at the end, and the same block serves them all."""
    path = tmp_path / "data"
    path.write_bytes(b"a" * 4096 + b"b" * 100)
    pool, parts = BufferPool(), []
    # snippet: buffers
    with open(path, "rb", buffering=0) as file:
        while True:
            with pool.read_into(file, 4096) as part:
                if not part:
                    break
                parts.append(part.tobytes())
    # end snippet
    assert parts == [b"a" * 4096, b"b" * 100]
    drawn = pool.statistics()
    assert (drawn.rents, drawn.made, drawn.rented) == (3, 1, 0)


class Answer(io.BytesIO):
    """A file whose reads give what the test says."""

    def __init__(self, answer: int | None) -> None:
        super().__init__()
        self.answer = answer

    def readinto(self, buffer: Any, /) -> int:
        return self.answer  # type: ignore[return-value]


@pytest.mark.parametrize(("answer", "error"), [(None, BlockingIOError), (5000, ValueError), (-1, ValueError)])
def test_file_that_reads_nothing_or_too_much_is_an_error(answer: int | None, error: type[Exception]) -> None:
    """What cannot be a number of bytes read raises, and nothing stays rented."""
    pool = BufferPool()
    with pytest.raises(error):
        pool.read_into(Answer(answer), 4096)
    assert pool.statistics().rented == 0


def test_text_file_is_refused_with_advice() -> None:
    """A file without readinto is named, and nothing is rented for it."""
    pool = BufferPool()
    with pytest.raises(TypeError, match="StringIO has no readinto: open the file in binary mode"):
        pool.read_into(io.StringIO("text"), 4096)  # type: ignore[arg-type]
    assert pool.statistics().rents == 0


def test_recv_into_gives_what_the_socket_had() -> None:
    """The filled part of each receive, then an empty one when the other end has closed."""
    pool = BufferPool()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"hello")
        with pool.recv_into(ours, 4096, flags=socket.MSG_PEEK) as part:
            assert bytes(part) == b"hello"
        with pool.recv_into(ours, 4096) as part:
            assert bytes(part) == b"hello"
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            pool.recv_into(ours, 4096)
        theirs.close()
        with pool.recv_into(ours, 4096) as part:
            assert len(part) == 0
        with pytest.raises(ValueError, match="from 1 up"):
            pool.recv_into(ours, 0)
    assert (pool.statistics().rented, pool.statistics().made) == (0, 1)


# --- the end ----------------------------------------------------------------------------------------------------------


def test_closed_pool_lends_nothing_and_closes_again() -> None:
    """After close renting raises ContextClosed, for lengths known and new, and closing again finds nothing."""
    pool = BufferPool()
    pool.rent(4096).release()
    pool.close()
    assert not pool.ceiling._pools
    for nbytes in (100, 4096, 5000):
        with pytest.raises(ContextClosed):
            pool.rent(nbytes)
    closure = pool.close()
    assert (closure.rented, closure.invalidated, closure.kept) == (0, 0, 0)
    assert pool.ceiling.used_bytes == 0


def test_a_thousand_rented_and_nothing_remains() -> None:
    """1,000 buffers that nobody returned are reported and ended at close, and no memory of them is left."""
    ceiling = BufferCeiling(64 * KIB * KIB)
    growth: list[int] = []
    tracemalloc.start()
    try:
        for _ in range(5):
            one_round(ceiling)
            gc.collect()
            growth.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert growth[-1] - growth[1] < 4096
    assert ceiling.used_bytes == 0


def one_round(ceiling: BufferCeiling) -> None:
    pool = BufferPool(ceiling)
    views = [pool.rent(nbytes) for nbytes in (100, 4096, 9000, 2_000_000) for _ in range(250 if nbytes < 10_000 else 5)]
    views += [pool.rent(3000) for _ in range(245)]
    assert len(views) == 1000
    closure = pool.close()
    assert (closure.rented, closure.invalidated, closure.kept) == (1000, 1000, 0)
    for view in views:
        with pytest.raises(ValueError, match="released"):
            view[0]


@pytest.mark.parametrize("where", ["getrefcount", "_Block"])
def test_pool_closed_while_a_block_is_on_its_way_lends_it_not(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has a block in hands at the moment of the close gets ContextClosed, and the block goes."""
    pool = BufferPool()
    if where == "getrefcount":
        pool.rent(4096).release()
    real = getattr(module, where)

    def late(argument: Any) -> Any:
        pool.close()
        return module._FREE if where == "getrefcount" else real(argument)

    with monkeypatch.context() as patch:
        patch.setattr(module, where, late)
        with pytest.raises(ContextClosed):
            pool.rent(4096)
    drawn = pool.statistics()
    assert (pool.ceiling.used_bytes, drawn.rented, drawn.dropped) == (0, 0, 1)


def test_close_in_the_midst_of_renting_leaves_nothing_valid() -> None:
    """Threads that rent while the pool is closed get ContextClosed, and no view of theirs outlives the close."""
    for _ in range(5):
        pool, views = BufferPool(), list[memoryview]()
        threads = [Renter(pool, views) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.began.wait()
        pool.close()
        for thread in threads:
            thread.join()
        assert [thread.ended for thread in threads] == [True] * 4
        assert [view for view in views if not is_over(view)] == []
        assert (pool.ceiling.used_bytes, pool.held_bytes) == (0, 0)


class Renter(threading.Thread):
    """Rents until the pool is closed, and keeps one view of fifty."""

    def __init__(self, pool: BufferPool, views: list[memoryview]) -> None:
        super().__init__()
        self.pool = pool
        self.views = views
        self.began = threading.Event()
        self.ended = False

    def run(self) -> None:
        try:
            while True:
                self.views.append(self.pool.rent(4096))
                for _ in range(49):
                    self.pool.rent(4096).release()
                self.began.set()
        except ContextClosed:
            self.ended = True


# --- threads, and the hot loop ----------------------------------------------------------------------------------------


def test_eight_threads_never_share_a_block_and_counters_are_exact() -> None:
    """Under a ceiling that is sometimes too small, nobody sees the bytes of another one, and every rent is counted."""
    pool = BufferPool(200_000, pool_max_array_bytes=64 * KIB)
    rents, refused, wrong = [0] * 8, [0] * 8, [0] * 8

    def work(number: int) -> None:
        chance, mark = random.Random(number), bytes([number + 1])
        for _ in range(600):
            nbytes = chance.choice([500, 2000, 4096, 20_000, 64 * KIB, 80_000])
            try:
                view = pool.rent(nbytes, clear=chance.random() < 0.1)
            except CeilingExceeded:
                refused[number] += 1
                continue
            rents[number] += 1
            with view:
                view[:] = mark * nbytes
                wrong[number] += view.tobytes() != mark * nbytes

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    drawn, ceiling = pool.statistics(), pool.ceiling.statistics()
    assert sum(wrong) == 0
    assert (drawn.rents, drawn.returns, drawn.rented) == (sum(rents), sum(rents), 0)
    assert ceiling.refusals == sum(refused) == 8 * 600 - sum(rents)
    assert ceiling.peak_bytes <= 200_000
    assert ceiling.used_bytes == drawn.idle_bytes


def test_hot_loop_allocates_and_collects_nothing(tmp_path: Path) -> None:
    """Reads and writes of 64 KiB use one block, cause no full collection, and leave nothing that grows."""
    pool, nbytes, times = BufferPool(64 * KIB * KIB), 64 * KIB, 1_000
    with open(tmp_path / "data", "w+b", buffering=0) as file:

        def operate() -> None:
            file.seek(0)
            with pool.rent(nbytes) as view:
                file.write(view)
            file.seek(0)
            with pool.read_into(file, nbytes) as part:
                assert len(part) == nbytes

        operate()
        gc.collect()
        before = gc.get_stats()[2]["collections"]
        tracemalloc.start()
        try:
            operate()
            base = tracemalloc.get_traced_memory()[0]
            for _ in range(times):
                operate()
            growth = tracemalloc.get_traced_memory()[0] - base
        finally:
            tracemalloc.stop()
    assert gc.get_stats()[2]["collections"] == before
    assert growth <= 64 * 10
    assert pool.statistics().made == 1


@pytest.mark.parametrize("clear", [False, True])
def test_blocks_that_have_gone_leave_nothing_behind(clear: bool) -> None:
    """A pool that makes every block anew, and that nobody asks for figures, takes the same after 2,000 rents."""
    pool = BufferPool(64 * KIB, pool_max_array_bytes=MIB if clear else 0)

    def rents() -> int:
        for _ in range(1000):
            pool.rent(4096, clear=clear).release()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        rents()
        base = rents()
        growth = rents() - base
    finally:
        tracemalloc.stop()
    assert growth < 4096
    assert pool.statistics().made == pool.ceiling.statistics().charges == 3000


def test_ceiling_counts_the_blocks_of_all_pools() -> None:
    """A block that is lent again was counted when it was made, and one that found no room never."""
    ceiling = BufferCeiling(64 * KIB)
    pools = [BufferPool(ceiling), BufferPool(ceiling, pool_max_array_bytes=0)]
    for pool in (*pools, *pools, *pools):
        pool.rent(8 * KIB).release()
    with pytest.raises(CeilingExceeded):
        pools[0].rent(65 * KIB)
    assert [pool.statistics().made for pool in pools] == [1, 3]
    assert ceiling.statistics().charges == 1 + 3


# --- wrong input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nbytes", [-1, True, 1.5, "4096", None, [4096]])
def test_length_that_is_none_is_refused(nbytes: Any) -> None:
    """Only whole numbers from 0 up are lengths, and the error says so."""
    pool = BufferPool()
    pool.rent(4096).release()
    with pytest.raises(ValueError, match="give a whole number from 0 up"):
        pool.rent(nbytes)
    assert pool.statistics().rents == 1


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"ceiling": 0}, "ceiling_bytes"),
        ({"ceiling": "64 MiB"}, "ceiling_bytes"),
        ({"pool_max_array_bytes": -1}, "pool_max_array_bytes"),
        ({"pool_max_array_bytes": 1.5}, "pool_max_array_bytes"),
    ],
)
def test_setting_of_a_pool_that_makes_no_sense_is_refused(settings: dict[str, Any], name: str) -> None:
    """The error names the setting."""
    with pytest.raises(ConfigurationError, match=name):
        BufferPool(**settings)
