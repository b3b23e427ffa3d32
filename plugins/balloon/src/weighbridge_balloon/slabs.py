"""A cache whose memory really goes when it is let go of: whole huge pages of its own, each full of values.

What Python frees seldom leaves the process, for somebody else's object lies on the same page; and what leaves the
process in small pieces never reaches the hypervisor, which takes back blocks of 2 MiB. So values lie in slabs of 2 MiB,
in memory that nobody else is in, and a slab goes as a whole.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeAlias

import attrs
from weighbridge_hookspecs import ConfigurationError, ContextClosed, Lease

from .pages import HUGE, Pages, system_pages

Charge: TypeAlias = Callable[[int, str], Lease]
"""Puts bytes on somebody's account: ``context.charge``."""
_WORTH_MOVING: Final = 4
"""A slab is packed anew if a quarter of it is holes."""


@attrs.frozen(kw_only=True)
class SlabStatistics:
    """What a cache holds now, and what became of the calls so far."""

    entries: int
    value_bytes: int
    """Sum of the lengths of the values that are kept."""
    slab_bytes: int
    """Taken from the system for them."""
    max_bytes: int
    slabs: int
    hits: int
    misses: int
    puts: int
    rejected: int
    """Values that are larger than the whole cache, or for which the system gave no memory."""
    evicted: int
    """Values that went with their slab, to make room for others or for the machine."""
    released_bytes: int
    """Handed back to the system by `trim` so far."""


class _Turn:
    """A lock that says whether this thread holds it already.

    The collector may run a finalizer in the middle of a call, and that may call the cache. It must not free the slab
    from which the call is about to copy: it gets nothing, keeps nothing and releases nothing.
    """

    __slots__ = ("_depth", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0

    def __enter__(self) -> bool:
        self._lock.acquire()
        self._depth += 1
        return self._depth == 1

    def __exit__(self, *failure: object) -> None:
        self._depth -= 1
        self._lock.release()


class _Slab:
    """A block of memory, filled from its beginning on. Gives its memory back when it is dropped."""

    def __init__(self, pages: Pages, nbytes: int, charge: Charge | None) -> None:
        self.address: int | None = None
        self.nbytes: Final = nbytes
        self._pages = pages
        self._charge = None if charge is None else charge(nbytes, "slabs")
        try:
            self.address = pages.take(nbytes)
        except BaseException:
            self._uncharge()
            raise
        self.view = memoryview((ctypes.c_char * nbytes).from_address(self.address)).cast("B")
        self.entries: dict[Hashable, tuple[int, int]] = {}
        """Where each value begins, and its length."""
        self.end = 0
        self.live_bytes = 0
        self.uses = 0

    def __del__(self) -> None:
        self.free()

    @property
    def resident_bytes(self) -> int:
        """What the system would get back."""
        return 0 if self.address is None else self._pages.resident_bytes(self.address, self.nbytes)

    def add(self, key: Hashable, value: memoryview) -> None:
        """Put a value at the end, where there has to be room."""
        start, self.end = self.end, self.end + value.nbytes
        self.view[start : self.end] = value
        self.entries[key] = start, value.nbytes
        self.live_bytes += value.nbytes
        self.uses += 1

    def discard(self, key: Hashable) -> None:
        """Take a value out. Its room is a hole until the slab is packed, or empty."""
        self.live_bytes -= self.entries.pop(key)[1]
        if not self.entries:
            self.end = self.live_bytes = 0

    def pack(self) -> None:
        """Close the holes."""
        end = 0
        for key, (start, nbytes) in sorted(self.entries.items(), key=lambda entry: entry[1]):
            # Source and target may overlap: a slice of a memoryview is moved as by memmove.
            self.view[end : end + nbytes] = self.view[start : start + nbytes]
            self.entries[key] = end, nbytes
            end += nbytes
        self.end = end

    def clear(self) -> None:
        """Take every value out."""
        self.entries.clear()
        self.end = self.live_bytes = self.uses = 0

    def free(self) -> None:
        """Let the system have the memory. Once is enough."""
        address, self.address = self.address, None
        if address is not None:
            self.view.release()
            self._pages.give_back(address, self.nbytes)
            self._uncharge()

    def _uncharge(self) -> None:
        charge, self._charge = self._charge, None
        if charge is not None:
            charge.release()


class SlabCache:
    """Values as bytes, at most `max_bytes` bytes of memory for all of them, in slabs that go as a whole. Thread-safe.

    The slab that was used least goes first: each put and each hit counts for the slab of the value, and all counts are
    halved whenever a slab has to go, so that what was popular long ago does not stay for ever. A value larger than 2
    MiB has a slab of its own.

    :param max_bytes: rounded down to whole slabs of 2 MiB.
    :param charge: puts each slab on an account, ``context.charge`` of whoever caches.
    :param pages: where memory comes from; a test gives its own.
    :ivar lease: given back with the cache; who made the cache may put one here.
    :raises ConfigurationError: if not even one slab fits.
    """

    def __init__(self, max_bytes: int, *, charge: Charge | None = None, pages: Pages | None = None) -> None:
        if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < HUGE:
            raise ConfigurationError(
                f"a slab cache of {max_bytes!r} bytes has no room for a slab", advice="Give 2 MiB, 2097152, or more"
            )
        self._max_bytes: Final = max_bytes // HUGE * HUGE
        self._charge = charge
        self._pages = system_pages() if pages is None else pages
        self._turn = _Turn()
        self.lease: Lease | None = None
        self._slabs: list[_Slab] = []
        self._filling: _Slab | None = None
        self._where: dict[Hashable, _Slab] = {}
        self._is_closed = False
        self._hits = self._misses = self._puts = self._rejected = self._evicted = self._released_bytes = 0

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._where

    def get(self, key: Hashable, default: Any = None) -> Any:
        """A copy of the value, as bytes, or `default`."""
        with self._turn as is_first:
            found = self._find(key) if is_first else None
            return default if found is None else bytes(found)

    def read_into(self, key: Hashable, buffer: Any) -> int | None:
        """Copy the value to the beginning of `buffer`, and give its length; None if it is not there.

        :raises ValueError: if the buffer is shorter than the value.
        """
        with self._turn as is_first, memoryview(buffer) as view, view.cast("B") as room:
            found = self._find(key) if is_first else None
            if found is None:
                return None
            if room.nbytes < found.nbytes:
                raise ValueError(f"the value has {found.nbytes} bytes, and the buffer {room.nbytes}")
            room[: found.nbytes] = found
            return found.nbytes

    def put(self, key: Hashable, value: Any) -> bool:
        """Keep a copy of `value`, anything with a buffer; others make room. Whether it is kept.

        It is not if it is larger than the whole cache, or if the system gives no memory. What the key had before is
        gone in any case.

        :raises ContextClosed: if the cache was given back.
        """
        with self._turn as is_first, memoryview(value) as view, view.cast("B") as content:
            if self._is_closed:
                raise ContextClosed("a slab cache was used after it was given back", step="lease")
            if not is_first:
                return False
            self._take_out(key)
            self._puts += 1
            slab = self._room_for(content.nbytes)
            if slab is None:
                self._rejected += 1
                return False
            slab.add(key, content)
            self._where[key] = slab
            return True

    def discard(self, key: Hashable) -> bool:
        """Take `key` out; whether it was there."""
        with self._turn as is_first:
            return is_first and self._take_out(key)

    def trim(self, nbytes: int) -> int:
        """Hand slabs back to the system until `nbytes` bytes are there, and give the bytes that went.

        The slab that was used least goes first, and its values with it. Bytes of a slab that were never written to were
        never in memory, unless they are part of a huge page that was, and do not count.
        """
        released = 0
        with self._turn as is_first:
            for slab in self._by_use() if is_first and nbytes > 0 else ():
                released += slab.resident_bytes
                self._drop(slab)
                if released >= nbytes:
                    break
            self._released_bytes += released
        return released

    def clear(self) -> None:
        """Drop every value and every slab."""
        with self._turn as is_first:
            while is_first and self._slabs:
                self._drop(self._slabs[-1])

    def release(self) -> None:
        """Drop everything, and take nothing any more. Releasing twice does nothing."""
        self._is_closed = True
        if self.lease is not None:
            self.lease.release()
        self.clear()

    def statistics(self) -> SlabStatistics:
        """What it holds, and what became of the calls."""
        with self._turn:
            return SlabStatistics(
                entries=len(self._where),
                value_bytes=sum(slab.live_bytes for slab in self._slabs),
                slab_bytes=self._slab_bytes(),
                max_bytes=self._max_bytes,
                slabs=len(self._slabs),
                hits=self._hits,
                misses=self._misses,
                puts=self._puts,
                rejected=self._rejected,
                evicted=self._evicted,
                released_bytes=self._released_bytes,
            )

    # --- inside, in one's own turn ---------------------------------------------------------------------------------

    def _find(self, key: Hashable) -> memoryview | None:
        slab = self._where.get(key)
        if slab is None:
            self._misses += 1
            return None
        self._hits += 1
        slab.uses += 1
        start, nbytes = slab.entries[key]
        return slab.view[start : start + nbytes]

    def _take_out(self, key: Hashable) -> bool:
        slab = self._where.pop(key, None)
        if slab is not None:
            slab.discard(key)
        return slab is not None

    def _room_for(self, nbytes: int) -> _Slab | None:
        """A slab with that much room at its end; None if there cannot be one."""
        size = max(HUGE, -(-nbytes // HUGE) * HUGE)
        if size > self._max_bytes:
            return None
        if size > HUGE:
            return self._make(size)
        self._filling = self._now_filling(nbytes) or self._packed(nbytes) or self._make(HUGE)
        return self._filling

    def _now_filling(self, nbytes: int) -> _Slab | None:
        slab = self._filling
        return slab if slab is not None and slab.end + nbytes <= slab.nbytes else None

    def _packed(self, nbytes: int) -> _Slab | None:
        """The slab with most holes, packed, if that is worth it; one that is empty is the best of them."""
        small = [slab for slab in self._slabs if slab.nbytes == HUGE]
        slab = min(small, key=lambda slab: slab.live_bytes, default=None)
        if slab is None or slab.nbytes - slab.live_bytes < max(nbytes, HUGE // _WORTH_MOVING):
            return None
        if slab.end != slab.live_bytes:
            slab.pack()
        return slab

    def _make(self, size: int) -> _Slab | None:
        """A new slab, for which others go; None if the system gives no memory."""
        while self._slabs and self._slab_bytes() + size > self._max_bytes:
            self._drop(self._by_use()[0])
        try:
            slab = _Slab(self._pages, size, self._charge)
        except MemoryError:
            return None
        self._slabs.append(slab)
        return slab

    def _by_use(self) -> list[_Slab]:
        """The one to go first: nothing in it, least used, least in it, oldest. From now on uses count half."""
        found = sorted(self._slabs, key=lambda slab: (bool(slab.entries), slab.uses, slab.live_bytes))
        for slab in found:
            slab.uses //= 2
        return found

    def _drop(self, slab: _Slab) -> None:
        for key in slab.entries:
            del self._where[key]
        self._evicted += len(slab.entries)
        slab.clear()
        self._slabs.remove(slab)
        if self._filling is slab:
            self._filling = None
        slab.free()

    def _slab_bytes(self) -> int:
        return sum(slab.nbytes for slab in self._slabs)
