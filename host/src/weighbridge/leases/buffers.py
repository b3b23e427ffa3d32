"""Buffers for reading and writing, lent from pools of a few sizes.

What is lent is a plain ``memoryview``: its own ``with`` block ends it, in C, and nothing is called when it comes back.
A block is free when nobody refers to it but its shelf. A view refers to its block through a buffer that it shares with
its slices, and with whatever C code has taken of either (``_PyManagedBuffer_FromObject`` in
https://github.com/python/cpython/blob/v3.11.7/Objects/memoryobject.c), so the count of references, read when somebody
next wants a block, proves that no use of it is left. A slice that was kept, or an array made of a view, keeps its block
from being lent again. Asking the view itself proves nothing: ``release()`` passes while ``ctypes`` or numpy still use
the memory, for both hold a view of their own.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from sys import getrefcount
from typing import Final, TypeAlias

import attrs
from weighbridge_hookspecs import ContextClosed
from weighbridge_hookspecs.services import ReadsInto, ReceivesInto

from .buffer_ceiling import BufferCeiling
from .checks import whole_number

SMALLEST_POOLED: Final = 1025
"""Bytes. What is smaller comes from Python's own pools, which are faster than this one."""
DEFAULT_POOL_MAX_ARRAY_BYTES: Final = 1024 * 1024
_KNOWN_LENGTHS: Final = 1024
_WIPE_BYTES: Final = 16 * 1024
_PAGE_BYTES: Final = 4096


@attrs.frozen(kw_only=True)
class BufferStatistics:
    """What a pool holds now, and what became of the rents so far.

    ``rents == returns + rented`` and ``made == dropped + rented + idle``. While other threads rent at the same moment,
    a block on its way counts as rented, and its earlier rents may be missing for that moment.
    """

    rented: int
    """Blocks of which a view, a slice of one, or something made of either is in use."""
    rented_bytes: int
    idle: int
    """Blocks that wait to be lent again."""
    idle_bytes: int
    rents: int
    returns: int
    made: int
    """Blocks that were allocated; all other rents used one again."""
    dropped: int
    """Blocks whose memory went back."""


@attrs.frozen(kw_only=True)
class BufferClosure:
    """What a pool found when it was closed."""

    rented: int
    """Blocks that were still rented."""
    rented_bytes: int
    invalidated: int
    """Views that were ended: using one raises ValueError from now on."""
    kept: int
    """Blocks that are still in use: by a slice of a view, an array made of one, a read under way. They go with it."""
    kept_bytes: int


class BufferPool:
    """Lends writable views of exactly the length asked for. Thread-safe; no lock where a free block is at hand.

    Lengths from 1,025 bytes to `pool_max_array_bytes` come from shelves of blocks, four sizes to each power of 2, so
    that a block is at most a quarter larger than what is asked for. Others, and those that are to be wiped, are
    allocated for the occasion. All of them are on the account of the ceiling, with the size of their block, until
    their memory goes.

    :param ceiling: one that pools share; or bytes for a ceiling of its own; or None, for no limit.
    :param pool_max_array_bytes: the longest view that is pooled; 0 pools nothing.
    :param owner: by which name the ceiling knows who rents, so that it asks others for room.
    :raises ConfigurationError: if a number is not whole, or too small.
    """

    def __init__(
        self,
        ceiling: BufferCeiling | int | None = None,
        *,
        pool_max_array_bytes: int = DEFAULT_POOL_MAX_ARRAY_BYTES,
        owner: str | None = None,
    ) -> None:
        self.pool_max_array_bytes: Final = whole_number("pool_max_array_bytes", pool_max_array_bytes, least=0)
        self.ceiling: Final = ceiling if isinstance(ceiling, BufferCeiling) else BufferCeiling(ceiling)
        self.owner: Final = owner
        self._known: dict[int, _Way] = {}
        self._shelves: dict[int, _Shelf] = {}
        self._tally = _Tally(self.ceiling.given)
        # Dropping a block may run a finalizer of somebody's, which may rent.
        self._lock = threading.RLock()
        self._closed = False
        self._made = self._made_bytes = 0
        self._left: list[weakref.ref[_Block]] = []
        self.ceiling.join(self)

    def rent(self, nbytes: int, *, clear: bool = False) -> memoryview:
        """Lend a writable view of exactly `nbytes` bytes; what they hold at first is whatever was there.

        It comes back at the end of a ``with`` block, by ``release()``, or when the last view of it is gone. Using it
        afterwards, or entering it again, raises ValueError. A slice that is kept keeps the whole block rented.

        :param nbytes: from 0 up.
        :param clear: overwrite it with zeros when it comes back; its memory is then not used for others.
        :raises ValueError: if `nbytes` is no whole number from 0 up.
        :raises CeilingExceeded: if there is no room even after idle buffers went, garbage was collected and others were
            asked to release.
        :raises ContextClosed: after `close`.
        """
        if clear:
            return self._lend(nbytes, clear)
        block: _Block | None
        try:
            take, put, cut = self._known[nbytes]
            block = take()  # from here to `put` nobody else can see it
        except (LookupError, TypeError):
            block = None
        if block is None:  # not in the handler above: what is raised there would seem to come of it
            return self._lend(nbytes, clear)
        if getrefcount(block) != _FREE:
            put(block)
            del block  # or it could not be found free
            return self._lend(nbytes, clear)
        view = memoryview(block) if cut is None else memoryview(block)[cut]
        block.view = view
        block.rents += 1
        put(block)
        if self._closed:  # in the meantime, by another thread that may have looked for views before there was this one
            view.release()
            raise _closed()
        return view

    def read_into(self, file: ReadsInto, nbytes: int, *, clear: bool = False) -> memoryview:
        """Read once from `file`, at most `nbytes` bytes, and lend the part that was filled; an empty one is the end.

        :raises TypeError: if it is no binary file.
        :raises BlockingIOError: if it does not block, and has nothing yet.
        """
        read = getattr(file, "readinto", None)
        if read is None:
            raise TypeError(f"a {type(file).__name__} has no readinto: open the file in binary mode")
        return self._fill(read, self.rent(nbytes, clear=clear))

    def recv_into(self, connection: ReceivesInto, nbytes: int, *, flags: int = 0, clear: bool = False) -> memoryview:
        """Receive once from `connection`, at most `nbytes` bytes, and lend the part that was filled.

        An empty one means that the other end has closed. What the socket raises reaches the caller, and nothing stays
        rented.

        :raises ValueError: if `nbytes` is 0: an empty part would then mean nothing.
        """
        if nbytes == 0:
            raise ValueError("0 bytes: give the number of bytes to receive, from 1 up")
        return self._fill(lambda view: connection.recv_into(view, nbytes, flags), self.rent(nbytes, clear=clear))

    def trim(self, nbytes: int) -> int:
        """Give idle blocks back, the largest first, until `nbytes` bytes are free or none is left; the bytes that went.

        Call it when memory is short.
        """
        freed = 0
        with self._lock:
            for size in sorted(self._shelves, reverse=True):
                if freed >= nbytes:
                    break
                freed += self._shelves[size].drop_idle(nbytes - freed)
        return freed

    def close(self) -> BufferClosure:
        """Give every idle block back, and end every view that was lent.

        A slice that somebody made of a view cannot be told from what an array needs in order to be safe, so it stays
        valid. Its block stays on the account until it goes, and is lent to nobody. Closing again does no harm, and
        says what is left.
        """
        with self._lock:
            self._closed = True
            self._known.clear()
            self.ceiling.leave(self)
            before = self.statistics()
            shelves, self._shelves = self._shelves, {}
            invalidated = sum(shelf.close(self._tally, self._left) for shelf in shelves.values())
            invalidated += self._tally.end_plain_views()
            lost = self._tally.settle()
            return BufferClosure(
                rented=before.rented,
                rented_bytes=before.rented_bytes,
                invalidated=invalidated,
                kept=self._made - lost.blocks,
                kept_bytes=self._made_bytes - lost.nbytes,
            )

    def remaining(self) -> list[bytearray]:
        """After `close`: the blocks that are still in use, for whoever wants to know what holds them."""
        with self._lock:
            found = [reference() for reference in (*self._left, *self._tally.plain_blocks())]
        return [block for block in found if block is not None]

    @property
    def held_bytes(self) -> int:
        """Of all blocks, rented and idle; quicker than `statistics`."""
        with self._lock:
            return self._made_bytes - self._tally.settle().nbytes

    def statistics(self) -> BufferStatistics:
        """What it holds and did so far."""
        with self._lock:
            idle = [shelf.count() for shelf in self._shelves.values()]
            lost = self._tally.settle()
            idle_blocks = sum(one.idle for one in idle)
            idle_bytes = sum(one.idle_bytes for one in idle)
            held = self._made - lost.blocks
            # A block that is on no shelf was lent once: it is plain, or on its way.
            rents = lost.rents + sum(one.rents for one in idle) + held - sum(one.blocks for one in idle)
            return BufferStatistics(
                rented=held - idle_blocks,
                rented_bytes=self._made_bytes - lost.nbytes - idle_bytes,
                idle=idle_blocks,
                idle_bytes=idle_bytes,
                rents=rents,
                returns=rents - held + idle_blocks,
                made=self._made,
                dropped=lost.blocks,
            )

    def _lend(self, nbytes: int, clear: bool) -> memoryview:
        """What `rent` does where no free block is at hand."""
        if isinstance(nbytes, bool) or not isinstance(nbytes, int) or nbytes < 0:
            raise ValueError(f"a buffer of {nbytes!r} bytes: give a whole number from 0 up")
        if self._closed:
            raise _closed()
        if clear or not SMALLEST_POOLED <= nbytes <= self.pool_max_array_bytes:
            view = self._tally.lend_plain(self._make(nbytes, wipe=clear))
        else:
            view = self._from_shelf(nbytes)
        if self._closed:
            view.release()
            raise _closed()
        return view

    def _from_shelf(self, nbytes: int) -> memoryview:
        with self._lock:
            if self._closed:
                raise _closed()
            shelf = self._shelf(nbytes)
            block = shelf.find()
            if block is not None:
                block.rents += 1
                return shelf.lend(block, nbytes)
        # Not under the lock: making room asks others, who may wait for it.
        return shelf.lend(self._make(shelf.size, wipe=False), nbytes)

    def _shelf(self, nbytes: int) -> _Shelf:
        """The shelf for this length, which `rent` then finds by itself."""
        size = min(size_of_block(nbytes), self.pool_max_array_bytes)
        shelf = self._shelves.get(size)
        if shelf is None:
            shelf = self._shelves[size] = _Shelf(size)
        if len(self._known) >= _KNOWN_LENGTHS:
            self._known.clear()
        self._known[nbytes] = (shelf.blocks.pop, shelf.blocks.append, None if nbytes == size else slice(nbytes))
        return shelf

    def _make(self, size: int, *, wipe: bool) -> _Block:
        with self.ceiling.taken(size, self.owner):
            block = self._allocate(size)
            if self.ceiling.process is not None:
                block[::_PAGE_BYTES] = bytes(-(-size // _PAGE_BYTES))  # or it would not be occupied before it is used
        block.wipe = wipe
        with self._lock:
            self._made += 1
            self._made_bytes += size
            block.tally = self._tally  # from here on, its end takes it off the account
            self._tally.settle()  # or the notes on blocks that have gone would grow as long as nobody asks
        return block

    def _allocate(self, size: int) -> _Block:
        try:
            return _Block(size)
        except MemoryError:  # what is idle may be what is missing
            if not self.ceiling.trim(size):
                raise
        return _Block(size)

    def _fill(self, read: Callable[[memoryview], int | None], view: memoryview) -> memoryview:
        with view:
            count = read(view)
            if count is None:
                raise BlockingIOError("nothing to read yet: wait until the file is ready")
            if not 0 <= count <= len(view):
                raise ValueError(f"{count!r} bytes were read into a buffer of {len(view)}")
            return view[:count]


def size_of_block(nbytes: int) -> int:
    """Bytes of the block for a view of `nbytes` bytes: the next quarter of a power of 2.

    >>> size_of_block(1025), size_of_block(4096), size_of_block(4097)
    (1280, 4096, 5120)
    """
    step = 1 << max((nbytes - 1).bit_length() - 3, 0)
    return -(-nbytes // step) * step


class _Block(bytearray):
    """Memory that tells its tally when it goes, whichever way that comes about."""

    __slots__ = ("__weakref__", "rents", "tally", "view", "wipe")
    rents: int
    tally: _Tally
    view: memoryview | None
    """What was lent of it last, if it is of a shelf: a block that is not would never go, for its view refers to it."""
    wipe: bool

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.rents = 1
        self.view = None

    def __del__(self) -> None:
        try:
            tally = self.tally
        except AttributeError:  # it was never taken up
            return
        try:
            if self.wipe:
                _wipe(self)
        finally:
            tally.note(id(self), len(self), self.rents)


def _wipe(block: bytearray) -> None:
    zeros = bytes(min(len(block), _WIPE_BYTES))
    for start in range(0, len(block), _WIPE_BYTES):
        end = min(start + _WIPE_BYTES, len(block))
        block[start:end] = zeros[: end - start]  # of the same length, so that nothing is moved


@attrs.frozen
class _Lost:
    blocks: int
    nbytes: int
    rents: int


class _Tally:
    """Blocks of one pool that have gone. A block belongs to the pool whose tally it has."""

    def __init__(self, given: deque[int]) -> None:
        self._given = given
        self._noted: deque[tuple[int, int]] = deque()
        self._lost = _Lost(0, 0, 0)
        self._plain: dict[int, tuple[weakref.ref[_Block], weakref.ref[memoryview]]] = {}

    def note(self, key: int, nbytes: int, rents: int) -> None:
        """Called by finalizers at any moment, so it takes no lock."""
        self._plain.pop(key, None)
        self._noted.append((nbytes, rents))
        self._given.append(nbytes)

    def note_rents(self, rents: int) -> None:
        """Earlier rents of a block that leaves its shelf in use. Under the pool's lock."""
        lost = self.settle()
        self._lost = attrs.evolve(lost, rents=lost.rents + rents)

    def lend_plain(self, block: _Block) -> memoryview:
        """A view of a block that is on no shelf."""
        view = memoryview(block)
        self._plain[id(block)] = weakref.ref(block), weakref.ref(view)
        return view

    def end_plain_views(self) -> int:
        """End the views of blocks that are on no shelf; how many those were."""
        return sum(_end(view()) for _, view in self._plain.copy().values())

    def plain_blocks(self) -> list[weakref.ref[_Block]]:
        """The blocks that are on no shelf."""
        return [block for block, _ in self._plain.copy().values()]

    def settle(self) -> _Lost:
        """All that has gone so far. Under the pool's lock."""
        while self._noted:
            nbytes, rents = self._noted.popleft()
            self._lost = _Lost(self._lost.blocks + 1, self._lost.nbytes + nbytes, self._lost.rents + rents)
        return self._lost


@attrs.frozen
class _Count:
    blocks: int
    rents: int
    idle: int
    idle_bytes: int


class _Shelf:
    """Blocks of one size, lent and free ones, the one lent last at the right end.

    Whoever wants to look at a block takes it off first, so that it is looked at by one thread only.
    """

    __slots__ = ("blocks", "patience", "size")

    def __init__(self, size: int) -> None:
        self.size: Final = size
        self.blocks: Final[deque[_Block]] = deque()
        self.patience = 0

    def find(self) -> _Block | None:
        """A free block, which is then off the shelf.

        After a look at all of n blocks for nothing, the next n / 8 looks are at one of them: so renting many costs
        time in proportion to how many, and at most an eighth more is made than is needed.
        """
        looks = len(self.blocks)
        if self.patience:
            self.patience -= 1
            looks = min(looks, 1)
        else:
            self.patience = looks // 8
        for _ in range(looks):
            if (block := self._oldest()) is None:
                break
            if getrefcount(block) != _FREE:
                _end_if_lost(block)
            if getrefcount(block) == _FREE:
                self.patience = 0
                return block
            self.blocks.append(block)
        return None

    def lend(self, block: _Block, nbytes: int) -> memoryview:
        """A view of a block that is off the shelf, which is then on it."""
        view = memoryview(block) if nbytes == self.size else memoryview(block)[:nbytes]
        block.view = view
        self.blocks.append(block)
        return view

    def drop_idle(self, nbytes: int) -> int:
        """Let go of free blocks until `nbytes` bytes went, or none is left; the bytes that went."""
        freed = 0
        for _ in range(len(self.blocks)):
            if freed >= nbytes or (block := self._oldest()) is None:
                break
            if getrefcount(block) != _FREE:
                _end_if_lost(block)
            if getrefcount(block) == _FREE:
                freed += self.size
            else:
                self.blocks.append(block)
            del block
        return freed

    def close(self, tally: _Tally, left: list[weakref.ref[_Block]]) -> int:
        """Let go of every block, and end its view; how many views were not ended before.

        :param left: where blocks are appended that are still in use after that.
        """
        ended = 0
        while (block := self._oldest()) is not None:
            ended += _end(block.view)
            block.view = None
            tally.note_rents(block.rents - 1)
            block.rents = 1
            if getrefcount(block) != _FREE:
                left.append(weakref.ref(block))
        return ended

    def count(self) -> _Count:
        """What is on it."""
        blocks = rents = idle = 0
        for _ in range(len(self.blocks)):
            if (block := self._oldest()) is None:
                break
            if getrefcount(block) != _FREE:
                _end_if_lost(block)
            blocks += 1
            rents += block.rents
            idle += getrefcount(block) == _FREE
            self.blocks.append(block)
        return _Count(blocks, rents, idle, idle * self.size)

    def _oldest(self) -> _Block | None:
        try:
            return self.blocks.popleft()
        except IndexError:  # another thread has taken the rest
            return None


_Way: TypeAlias = tuple[Callable[[], _Block], Callable[[_Block], None], slice | None]


def _references_to_a_free_block() -> int:
    """What the count says of a block that only a local variable refers to; it differs from Python to Python."""
    shelf = deque([_Block(1)])
    block = shelf.pop()
    return getrefcount(block)


def _references_to_a_lost_view() -> int:
    """What the count says of a view that only its block refers to."""
    block = _Block(1)
    block.view = memoryview(b"")
    return getrefcount(block.view)


_FREE: Final = _references_to_a_free_block()
_LOST: Final = _references_to_a_lost_view()


def _end_if_lost(block: _Block) -> None:
    """End a view that was dropped as it was, so that its block comes back."""
    if getrefcount(block.view) == _LOST:
        _end(block.view)


def _end(view: memoryview | None) -> bool:
    """End a view, and whether that was still to be done and could be."""
    try:
        if view is None or view.nbytes < 0:  # asking for anything raises if it has ended
            return False
        view.release()
    except (ValueError, BufferError):  # something in C reads or writes it at this moment
        return False
    return True


def _closed() -> ContextClosed:
    return ContextClosed("the pool of buffers is closed", step="lease", advice="Drop it when the plugin is unloaded")
