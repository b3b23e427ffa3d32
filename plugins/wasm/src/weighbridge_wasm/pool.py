"""Warm instances that wait for the next call: few per module, and few bytes in all."""

from __future__ import annotations

import threading
import time
import traceback
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Generic, Literal, get_args

import attrs
from weighbridge_hookspecs import ConfigurationError

from .shelf import Entry, ModulePool, Poolable, Reason, Shelf, T

__all__ = ["ModulePool", "PoolStatistics", "Poolable", "Reason", "WarmPool"]

DEFAULT_MAX_PER_MODULE: Final = 10
"""Idle instances of one module."""
DEFAULT_MAX_ITEMS: Final = 256
"""Idle instances in all. Each has three mappings; ``vm.max_map_count`` gives a process 65,530 if nobody changed it."""
DEFAULT_MAX_BYTES: Final = 256 << 20
"""Resident bytes of all idle instances together."""
DEFAULT_WINDOWS: Final = 2
"""Windows between two calls of `decay` whose peaks are remembered."""

_MEASURE_SECONDS: Final = 1.0


@attrs.frozen(kw_only=True)
class PoolStatistics:
    """How a pool stands, and what became of its instances.

    ``made == idle + in_use + sum(closed.values())``, at any moment.
    """

    idle: int
    in_use: int
    """Those of discarded modules among them."""
    idle_bytes: int
    """Resident bytes of idle instances, as last measured."""
    made: int
    reused: int
    missed: int
    """Requests that found no idle instance."""
    returned: int
    """Those that came back and were kept."""
    closed: Mapping[Reason, int]
    """By reason; every reason is there."""
    failures: int
    """Times that closing or measuring an instance raised."""
    last_failure: str | None
    modules: Mapping[str, ModulePool]
    """By module, the one used least recently first."""


class WarmPool(Generic[T]):
    """Pristine instances by module, for the next call. Thread-safe.

    An instance that comes back is reset and kept. The one used last goes out first, for its pages are in the
    processor's caches. Instances are closed where too many of a module are idle, or too many or too many bytes in all:
    then those of the module that was used least recently go first.

    What a module keeps decays with its peak, the most instances that it had in use at once: an instance of a pool is
    never idle for long by itself while calls come in at all, so its own idle time says nothing
    (https://github.com/wasmCloud/wasmCloud/issues/5430, solved by peaks in
    https://github.com/wasmCloud/wasmCloud/pull/5507).

    Resident bytes are measured when an instance comes back and its figure is a second old, and in `decay` where it was
    used since. So a figure is as old as the time between two calls of `decay`, at most; of an instance in steady use a
    second and a call. In between an idle instance occupies more than is counted if a call wrote to pages that none
    before it had written to.

    Resets, measurements and closing happen outside of the lock. They may call back into the pool, as a finalizer may.

    :param max_per_module: idle instances of one module, from 0 up.
    :param max_items: idle instances in all, from 0 up.
    :param max_bytes: resident bytes of all idle instances, from 0 up.
    :param windows: how many windows between two calls of `decay` count for the peak, from 1 up.
    :param clock: seconds that never go back, for the age of measurements.
    :raises ConfigurationError: if one of them makes no sense.
    """

    def __init__(
        self,
        *,
        max_per_module: int = DEFAULT_MAX_PER_MODULE,
        max_items: int = DEFAULT_MAX_ITEMS,
        max_bytes: int = DEFAULT_MAX_BYTES,
        windows: int = DEFAULT_WINDOWS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_per_module = _whole("max_per_module", max_per_module)
        self._max_items = _whole("max_items", max_items)
        self._max_bytes = _whole("max_bytes", max_bytes)
        self._windows: Final = _whole("windows", windows, least=1)
        self._clock: Final = clock
        # The collector may run a finalizer that comes back here while its thread is at work in here: at any call. So
        # what is looked at is taken with no call in between, and every state in between is one that others can take.
        self._lock: Final = threading.RLock()
        self._shelves: dict[str, Shelf[T]] = {}
        self._warm: OrderedDict[Shelf[T], None] = OrderedDict()  # those with something idle, used last is last
        self._lent: dict[int, Entry[T]] = {}  # by the id of the instance
        self._idle = self._idle_bytes = self._in_use = 0
        self._made = self._reused = self._missed = self._returned = self._failures = 0
        self._closed: Counter[Reason] = Counter(dict.fromkeys(get_args(Reason), 0))
        self._last_failure: str | None = None
        self._is_open = True

    # --- one instance ------------------------------------------------------------------------------------------------

    def acquire(self, key: str) -> T | None:
        """Lend an idle instance of that module; None if there is none.

        In that case make one and `adopt` it. Either way it ends with `release` or `drop`.
        """
        with self._lock:
            shelf = self._shelves.get(key)
            if shelf is None or not shelf.idle:
                self._missed += 1
                return None
            entry = self._take(shelf, shelf.idle.pop())
            self._reused += 1
            self._lend(shelf, entry)
            return entry.item

    def adopt(self, key: str, item: T) -> T:
        """Count `item`, which was made for that module, as lent by this pool. Gives `item` back.

        :raises ValueError: if it is lent already.
        """
        with self._lock:
            if id(item) in self._lent:
                raise ValueError("this instance is lent already")
            shelf = self._shelves.get(key)
            if shelf is None:
                shelf = self._shelf(key)
            self._made += 1
            self._lend(shelf, Entry(item))
        return item

    def release(self, item: T) -> bool:
        """Take back an instance after a call: it is reset, and kept if there is room; whether it was.

        :raises ValueError: if it is not lent. Nothing was done to it: somebody else may have it by now.
        """
        entry, shelf = self._return(item)
        if not shelf.is_open:
            self._end(entry, shelf, "discarded" if self._is_open else "closed")
            return False
        nbytes = None
        try:
            is_pristine = item.reset()
            if is_pristine and self._clock() - entry.measured_at >= _MEASURE_SECONDS:
                nbytes = self._measured(entry)
        except BaseException:
            self._end(entry, shelf, "failed_reset")
            raise
        if not is_pristine:
            self._end(entry, shelf, "failed_reset")
            return False
        return self._keep(entry, shelf, nbytes)

    def drop(self, item: T, reason: Literal["dropped", "spoiled"] = "dropped") -> None:
        """Close a lent instance in place of giving it back.

        :raises ValueError: if it is not lent.
        """
        self._end(*self._return(item), reason)

    # --- many instances ----------------------------------------------------------------------------------------------

    def discard(self, key: str) -> int:
        """Close what is idle of that module, and what is in use of it when it comes back; how many were idle.

        What is adopted under this key from now on has nothing to do with those.
        """
        with self._lock:
            entries = self._forget(key, "discarded")
        self._close(entries)
        return len(entries)

    def trim(self, nbytes: int) -> int:
        """Close idle instances until `nbytes` bytes are free, of the module used least recently first; the bytes freed.

        Each is measured before it is closed.
        """
        freed = 0
        while freed < nbytes:
            with self._lock:
                entry = self._evict("trimmed")
            if entry is None:
                break
            freed += self._measured(entry)
            self._close((entry,))
        return freed

    def decay(self) -> int:
        """End a window: close what no peak needs, and measure what was used; how many were closed.

        Of each module as many are left, idle and in use together, as it used at once in the last windows. To be called
        at a steady pace, such as every 10 s.
        """
        with self._lock:
            surplus = [entry for shelf in tuple(self._shelves.values()) for entry in self._surplus(shelf)]
            warm = tuple(self._warm)
            stale = [(shelf, entry) for shelf in warm for entry in tuple(shelf.idle) if entry.is_stale]
        self._close(surplus)
        count = sum(self._measure_idle(shelf, entry) for shelf, entry in stale)
        return len(surplus) + count + self._shrink()

    def resize(
        self, *, max_per_module: int | None = None, max_items: int | None = None, max_bytes: int | None = None
    ) -> int:
        """Set bounds while the pool is in use, and close what is beyond them; how many. None leaves one as it is.

        :raises ConfigurationError: if one of them makes no sense; then nothing is changed.
        """
        per_module = self._max_per_module if max_per_module is None else _whole("max_per_module", max_per_module)
        items = self._max_items if max_items is None else _whole("max_items", max_items)
        nbytes = self._max_bytes if max_bytes is None else _whole("max_bytes", max_bytes)
        with self._lock:
            self._max_per_module, self._max_items, self._max_bytes = per_module, items, nbytes
            crowd = [entry for shelf in tuple(self._warm) for entry in self._crowd(shelf)]
        self._close(crowd)
        return len(crowd) + self._shrink()

    def resize_module(self, key: str, max_idle: int | None) -> int:
        """Set how many of one module may be idle, until it is discarded; how many were closed. None is as the others.

        :raises ConfigurationError: if it is no whole number from 0 up.
        """
        wanted = None if max_idle is None else _whole("max_idle", max_idle)
        with self._lock:
            shelf = self._shelves.get(key)
            if shelf is None:
                shelf = self._shelf(key)
            shelf.max_idle = wanted
            crowd = self._crowd(shelf)
        self._close(crowd)
        return len(crowd)

    def close(self) -> None:
        """Close what is idle, and what is in use when it comes back. Closing twice does nothing."""
        with self._lock:
            self._is_open = False
            shelves = tuple(self._shelves.values())
            self._shelves.clear()
            entries = [entry for shelf in shelves for entry in self._retire(shelf, "closed")]
        self._close(entries)

    def statistics(self) -> PoolStatistics:
        """How it stands, all of one moment."""
        with self._lock:
            lent: Counter[Shelf[T] | None] = Counter()
            for entry in tuple(self._lent.values()):
                lent[entry.shelf] += entry.nbytes
            warm = self._warm.copy()
            cold = [shelf for shelf in tuple(self._shelves.values()) if shelf not in warm]
            return PoolStatistics(
                idle=self._idle,
                in_use=self._in_use,
                idle_bytes=self._idle_bytes,
                made=self._made,
                reused=self._reused,
                missed=self._missed,
                returned=self._returned,
                closed=dict(self._closed),
                failures=self._failures,
                last_failure=self._last_failure,
                modules={shelf.key: shelf.describe(lent[shelf]) for shelf in (*cold, *warm)},
            )

    def __repr__(self) -> str:
        return f"<WarmPool: {self._idle} idle ({self._idle_bytes} bytes), {self._in_use} in use>"

    # --- steps with the lock held ------------------------------------------------------------------------------------

    def _shelf(self, key: str) -> Shelf[T]:
        shelf: Shelf[T] = Shelf(key, self._windows)
        if not self._is_open:
            shelf.is_open = False
            return shelf
        return self._shelves.setdefault(key, shelf)

    def _lend(self, shelf: Shelf[T], entry: Entry[T]) -> None:
        shelf.lend(entry)
        self._in_use += 1
        self._lent[id(entry.item)] = entry

    def _take(self, shelf: Shelf[T], entry: Entry[T]) -> Entry[T]:
        """Count `entry`, which was just taken off the shelf, as idle no more."""
        self._idle -= 1
        self._weigh(shelf, -entry.nbytes)
        if not shelf.idle:
            self._warm.pop(shelf, None)
        return entry

    def _weigh(self, shelf: Shelf[T], nbytes: int) -> None:
        shelf.idle_bytes += nbytes
        self._idle_bytes += nbytes

    def _put(self, shelf: Shelf[T], entry: Entry[T]) -> list[Entry[T]]:
        """Put `entry` on the shelf as the one used last; what is to be closed, if that was discarded just now."""
        self._warm[shelf] = None
        self._warm.move_to_end(shelf)
        shelf.idle.append(entry)
        return [] if shelf.is_open else self._retire(shelf, "discarded")

    def _oldest(self, shelf: Shelf[T], count: int, reason: Reason) -> list[Entry[T]]:
        """Take so many off the shelf, or as many as it has."""
        taken: list[Entry[T]] = []
        while count > len(taken) and shelf.idle:
            entry = shelf.idle.popleft()
            self._closed[reason] += 1
            taken.append(self._take(shelf, entry))
        return taken

    def _evict(self, reason: Reason) -> Entry[T] | None:
        """Take the oldest idle instance of the module used least recently; None if nothing is idle."""
        for shelf in tuple(self._warm):
            for entry in self._oldest(shelf, 1, reason):
                return entry
        return None

    def _retire(self, shelf: Shelf[T], reason: Reason) -> list[Entry[T]]:
        shelf.is_open = False
        return self._oldest(shelf, len(shelf.idle), reason)

    def _surplus(self, shelf: Shelf[T]) -> list[Entry[T]]:
        peak = shelf.end_window()
        surplus = self._oldest(shelf, len(shelf.idle) + shelf.aside + shelf.in_use - peak, "decayed")
        is_empty = not (peak or shelf.idle or shelf.aside or shelf.in_use)
        if is_empty and shelf.max_idle is None:
            surplus += self._forget(shelf.key, "decayed")
        return surplus

    def _forget(self, key: str, reason: Reason) -> list[Entry[T]]:
        shelf = self._shelves.pop(key, None)
        return [] if shelf is None else self._retire(shelf, reason)

    def _excess(self) -> Entry[T] | None:
        """Take one that is beyond the bounds of all modules together; None if none is."""
        if self._idle > self._max_items:
            return self._evict("evicted")
        return self._evict("over_bytes") if self._idle_bytes > self._max_bytes else None

    def _crowd(self, shelf: Shelf[T]) -> list[Entry[T]]:
        """Take those that are beyond the bound of their module."""
        return self._oldest(shelf, len(shelf.idle) + shelf.aside - self._most(shelf), "full")

    def _most(self, shelf: Shelf[T]) -> int:
        return self._max_per_module if shelf.max_idle is None else shelf.max_idle

    # --- steps that take the lock themselves -------------------------------------------------------------------------

    def _return(self, item: T) -> tuple[Entry[T], Shelf[T]]:
        """Take `item` off those lent. One atomic step decides who does, so that two cannot release it at once."""
        entry = self._lent.pop(id(item), None)
        if entry is None or entry.shelf is None:
            raise ValueError("this instance is not lent: it was released or dropped before")
        shelf, entry.shelf = entry.shelf, None
        return entry, shelf

    def _end(self, entry: Entry[T], shelf: Shelf[T], reason: Reason) -> None:
        with self._lock:
            shelf.in_use -= 1
            self._in_use -= 1
            self._closed[reason] += 1
        self._close((entry,))

    def _keep(self, entry: Entry[T], shelf: Shelf[T], nbytes: int | None) -> bool:
        with self._lock:
            if nbytes is not None:
                self._note(entry, nbytes)
            refusal = self._refusal(entry, shelf)
            if refusal is None:
                shelf.in_use -= 1
                self._in_use -= 1
                self._returned += 1
                self._idle += 1
                self._weigh(shelf, entry.nbytes)
                late = self._put(shelf, entry)
                if not late and self._idle <= self._max_items and self._idle_bytes <= self._max_bytes:
                    return True
        if refusal is not None:
            self._end(entry, shelf, refusal)
            return False
        self._close(late)
        self._shrink()
        return not late

    def _refusal(self, entry: Entry[T], shelf: Shelf[T]) -> Reason | None:
        """Why an instance that comes back is not kept. One that is too big by itself must not drive out the others."""
        if not shelf.is_open:
            return "discarded" if self._is_open else "closed"
        if len(shelf.idle) + shelf.aside >= self._most(shelf):
            return "full"
        if entry.nbytes > self._max_bytes:
            return "over_bytes"
        return None if self._max_items else "evicted"

    def _note(self, entry: Entry[T], nbytes: int) -> None:
        entry.nbytes = nbytes
        entry.measured_at = self._clock()
        entry.is_stale = False

    def _measured(self, entry: Entry[T]) -> int:
        """Bytes of an instance that nobody else has now; if it cannot be measured, what it was before."""
        try:
            return entry.item.resident_bytes()
        except Exception:
            self._failed()
            return entry.nbytes

    def _measure_idle(self, shelf: Shelf[T], entry: Entry[T]) -> int:
        """Measure an idle instance; how many were closed. It is set aside: nobody has or closes it meanwhile."""
        with self._lock:
            try:
                shelf.idle.remove(entry)
            except ValueError:
                return 0  # somebody has it
            shelf.aside += 1
            if not shelf.idle:
                self._warm.pop(shelf, None)
        nbytes = self._measured(entry)
        with self._lock:
            shelf.aside -= 1
            self._weigh(shelf, nbytes - entry.nbytes)
            self._note(entry, nbytes)
            refusal = self._refusal(entry, shelf)
            if refusal is None:
                late = self._put(shelf, entry)  # it was used since the last time, so later than those that were not
            else:
                self._closed[refusal] += 1
                self._idle -= 1
                self._weigh(shelf, -entry.nbytes)
                late = [entry]
        self._close(late)
        return len(late)

    def _shrink(self) -> int:
        """Close what is beyond the bounds of all modules together; how many."""
        count = 0
        while True:
            with self._lock:
                entry = self._excess()
            if entry is None:
                return count
            self._close((entry,))
            count += 1

    def _close(self, entries: Iterable[Entry[T]]) -> None:
        """Close each; one that fails stops none of the others."""
        for entry in entries:
            try:
                entry.item.close()
            except Exception:
                self._failed()

    def _failed(self) -> None:
        failure = traceback.format_exc()  # as text: an exception would keep its frames alive
        with self._lock:
            self._failures += 1
            self._last_failure = failure


def _whole(name: str, value: int, *, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{name} is {value!r}", advice=f"Give a whole number from {least} up")
    return value
