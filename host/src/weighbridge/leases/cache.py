"""A least-recently-used cache with a bound on its entries and one on their bytes."""

from __future__ import annotations

import logging
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import attrs
from weighbridge_hookspecs import ContextClosed

from .checks import can_be_called, whole_number

_Pair: TypeAlias = tuple[Any, Any]
_log: Final = logging.getLogger("weighbridge.cache")


@attrs.frozen(kw_only=True)
class CacheStatistics:
    """What a cache holds now, and what became of the calls so far.

    ``puts == items + evictions + rejected + replaced + removed`` at every moment.
    """

    items: int
    bytes: int
    """Sum of the weights that were given for what is kept."""
    max_items: int
    max_bytes: int
    hits: int
    misses: int
    puts: int
    evictions: int
    """Entries that made room for others, or for the process (`trim`)."""
    rejected: int
    """Values that alone weigh more than ``max_bytes``."""
    replaced: int
    """Values whose key was put again."""
    removed: int
    """Entries taken out by `discard`, `clear` and `close`."""
    failures: int
    """Calls of ``on_evict`` that raised."""


class _Entry:
    """A value with its key and weight; compared by identity, so that the order of use never asks a key anything."""

    __slots__ = ("key", "nbytes", "value")

    def __init__(self, key: Any, value: Any, nbytes: int) -> None:
        self.key = key
        self.value = value
        self.nbytes = nbytes


class BoundedCache:
    """Keeps what was used last, at most `max_items` entries and `max_bytes` bytes. Thread-safe.

    A value leaves the cache in exactly one way: pushed out, replaced, refused because it weighs more than the whole
    cache may, or taken out by `discard`, `clear` or `close`. Whichever it is, `on_evict` is called with its key and
    itself once, in the thread that caused it and outside of the lock, so that whatever the value holds can be given
    back. Replacing a value by itself is no leaving. What `on_evict` raises is logged as text and counted.

    :param max_items: entries, from 1 up.
    :param max_bytes: bytes, from 1 up; the sum of what `put` was told, for only the caller knows what a value weighs.
    :raises ConfigurationError: if a bound is no whole number from 1 up, or `on_evict` cannot be called.
    """

    def __init__(self, max_items: int, max_bytes: int, on_evict: Callable[[Any, Any], object] | None = None) -> None:
        self.max_items: Final = whole_number("max_items", max_items, least=1)
        self.max_bytes: Final = whole_number("max_bytes", max_bytes, least=1)
        if on_evict is not None:
            can_be_called("on_evict", on_evict)
        self._on_evict = on_evict
        self._entries: dict[Any, _Entry] = {}
        # The order of use is kept apart from the keys: a key is hashed once by a get and once by a put, as by a dict.
        self._order: OrderedDict[_Entry, None] = OrderedDict()
        # A key's __eq__ and a finalizer run by the collector may call this cache again while its lock is held.
        self._lock = threading.RLock()
        self._closed = False
        self._bytes = 0
        self._hits = self._misses = self._puts = 0
        self._evictions = self._rejected = self._replaced = self._removed = self._failures = 0

    @property
    def held_bytes(self) -> int:
        """Sum of the weights that were given for what is kept; quicker than `statistics`."""
        return self._bytes

    def __len__(self) -> int:
        with self._lock:
            return len(self._order)

    def get(self, key: Any, default: Any = None) -> Any:
        """The value of `key`, which is now the one used last; or `default`.

        :raises ContextClosed: after `close`.
        """
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._order.move_to_end(entry)
                self._hits += 1
                return entry.value
            if self._closed:
                raise _closed()
            self._misses += 1
            return default

    def put(self, key: Any, value: Any, *, nbytes: int) -> None:
        """Keep `value` in place of what `key` had before; what was not used for longest makes room.

        A value that alone weighs more than ``max_bytes`` is not kept, and nothing makes room for it. What the key had
        before goes all the same: it is out of date.

        :param nbytes: what `value` weighs, from 0 up.
        :raises ValueError: if `nbytes` is no whole number from 0 up; the cache is then as it was.
        :raises ContextClosed: after `close`; `value` is then the caller's to give back.
        """
        if isinstance(nbytes, bool) or not isinstance(nbytes, int) or nbytes < 0:
            raise ValueError(f"a weight of {nbytes!r}: give the number of bytes from 0 up")
        gone: list[_Pair] = []
        on_evict = self._on_evict
        with self._lock:
            if self._closed:
                raise _closed()
            self._puts += 1
            if nbytes > self.max_bytes:
                self._refuse(key, value, gone)
            else:
                self._keep(_Entry(key, value, nbytes), gone)
        self._report(gone, on_evict)

    def discard(self, key: Any) -> bool:
        """Take `key` out; whether it was there."""
        gone: list[_Pair] = []
        on_evict = self._on_evict
        with self._lock:
            removed = self._take_out(key, gone)
            self._removed += removed
        self._report(gone, on_evict)
        return removed

    def trim(self, nbytes: int) -> int:
        """Let go of what was not used for longest, until `nbytes` bytes are free again or nothing is left.

        :returns: bytes that were let go of, as weighed by the caller of `put`.
        """
        gone: list[_Pair] = []
        on_evict = self._on_evict
        with self._lock:
            goal, before = self._bytes - nbytes, self._bytes
            while self._order and self._bytes > goal:
                self._evict(gone)
            freed = before - self._bytes
        self._report(gone, on_evict)
        return freed

    def clear(self) -> None:
        """Drop every entry."""
        gone: list[_Pair] = []
        on_evict = self._on_evict
        with self._lock:
            self._drop_all(gone)
        self._report(gone, on_evict)

    def close(self) -> None:
        """Drop every entry, and `on_evict` after it was told of each. Closing twice does nothing."""
        with self._lock:
            self._closed = True
        self.clear()
        self._on_evict = None

    release = close

    def statistics(self) -> CacheStatistics:
        """What it holds and did so far, all of one moment."""
        with self._lock:
            return CacheStatistics(
                items=len(self._order),
                bytes=self._bytes,
                max_items=self.max_items,
                max_bytes=self.max_bytes,
                hits=self._hits,
                misses=self._misses,
                puts=self._puts,
                evictions=self._evictions,
                rejected=self._rejected,
                replaced=self._replaced,
                removed=self._removed,
                failures=self._failures,
            )

    def _keep(self, entry: _Entry, gone: list[_Pair]) -> None:
        try:
            present = self._entries.setdefault(entry.key, entry)
        except BaseException:  # what the key's __hash__ or __eq__ raised
            self._puts -= 1
            raise
        if present is not entry:
            self._replaced += 1
            self._bytes -= present.nbytes
            if present.value is not entry.value:
                gone.append((present.key, present.value))
            present.value, present.nbytes = entry.value, entry.nbytes
            self._order.pop(present, None)
        self._order[present] = None
        self._bytes += entry.nbytes
        while len(self._order) > self.max_items or self._bytes > self.max_bytes:
            self._evict(gone)

    def _refuse(self, key: Any, value: Any, gone: list[_Pair]) -> None:
        try:
            self._replaced += self._take_out(key, gone, spared=value)
        except BaseException:
            self._puts -= 1
            raise
        self._rejected += 1
        gone.append((key, value))

    def _take_out(self, key: Any, gone: list[_Pair], spared: object = _Entry) -> bool:
        entry = self._entries.pop(key, None)
        if entry is None or not self._unlink(entry):
            return False
        if entry.value is not spared:
            gone.append((entry.key, entry.value))
        return True

    def _evict(self, gone: list[_Pair]) -> None:
        entry = next(iter(self._order))
        if self._pop(entry.key) is entry and self._unlink(entry):
            self._evictions += 1
            gone.append((entry.key, entry.value))
        elif entry in self._order:
            # Its key is not what it was when it was put (its hash has changed), so no table finds it again. The bounds
            # come first: everything goes, for a table that has lost one key may have lost others.
            self._drop_all(gone)

    def _pop(self, key: Any) -> _Entry | None:
        try:
            return self._entries.pop(key, None)
        except Exception:  # of the key's __hash__ or __eq__, which is none of the business of who makes room
            return None

    def _unlink(self, entry: _Entry) -> bool:
        if self._order.pop(entry, entry) is entry:
            return False
        self._bytes -= entry.nbytes
        return True

    def _drop_all(self, gone: list[_Pair]) -> None:
        order, self._order = self._order, OrderedDict()
        self._entries, self._bytes = {}, 0
        self._removed += len(order)
        gone.extend((entry.key, entry.value) for entry in order)

    def _report(self, gone: list[_Pair], on_evict: Callable[[Any, Any], object] | None) -> None:
        """Tell `on_evict` of what has left; nothing that it raises keeps it from being told of the rest.

        It is read before the lock is taken: whoever still found something in the cache then has what `close` drops.
        """
        if on_evict is None:
            return
        gone.reverse()
        while gone:
            try:
                on_evict(*gone.pop())
            except (Exception, SystemExit):
                self._failed(traceback.format_exc())
            except BaseException:  # Ctrl-C: the rest is told first, in the same order
                gone.reverse()
                self._report(gone, on_evict)
                raise

    def _failed(self, text: str) -> None:
        """Count and log, as text: an exception object would keep its frames alive."""
        with self._lock:
            self._failures += 1
        _log.error("on_evict raised:\n%s", text)


def _closed() -> ContextClosed:
    return ContextClosed("the cache is closed", step="lease", advice="Drop it when the plugin is unloaded")
