"""The bytes that pools of buffers may hold together, and what is done before one more is refused."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import attrs
from weighbridge_hookspecs import CeilingExceeded

from .checks import whole_number

_PATIENCE_SECONDS: Final = 0.1


class Trimmed(Protocol):
    """What gives idle memory back when others need room; a pool does."""

    def trim(self, nbytes: int) -> int:
        """Let go of idle memory until `nbytes` bytes are free; the bytes it let go of."""


class Process(Protocol):
    """What surrounds the buffers: their ceiling is then one for all that the process occupies."""

    def usage_bytes(self) -> int:
        """What it occupies now, buffers included."""

    def hand_back(self) -> object:
        """Give what the allocator of C keeps for later back to the system, or what was freed would still count."""

    def make_room(self, nbytes: int, owner: str | None) -> object:
        """Have others than `owner` release so many bytes. What it gives does not matter: room is measured again."""


@attrs.frozen(kw_only=True)
class CeilingStatistics:
    """What is held under a ceiling now, and what it took to stay under it."""

    ceiling_bytes: int | None
    """None: no limit."""
    used_bytes: int
    """Rented and idle, of all pools."""
    peak_bytes: int
    """The most that was ever used."""
    charges: int
    """How often a new block was put on the account; one that is lent again is there already."""
    collections: int
    """Collections of garbage that were made for room."""
    requests: int
    """How often the process was asked to make room."""
    refusals: int
    """How often there was no room after all that."""


class BufferCeiling:
    """An account of bytes with a limit, for one pool or for many. Thread-safe.

    Who finds no room waits for this, in order: idle buffers of every pool go, garbage is collected, the process is
    asked to make room, and idle buffers go once more, since others may have returned theirs. What is used never exceeds
    the limit at any moment, except after `resize` made it lower than what is rented. With `process`, neither does what
    that occupies exceed it by a new buffer.

    :param ceiling_bytes: the limit, from 1 up; None for none.
    :param process: what it raises reaches who rents, and nothing was charged.
    :raises ConfigurationError: if the limit is no whole number from 1 up.
    """

    def __init__(
        self,
        ceiling_bytes: int | None = None,
        process: Process | None = None,
    ) -> None:
        self._ceiling = _limit(ceiling_bytes)
        self.process: Final = process
        self._pools: dict[int, weakref.ref[Trimmed]] = {}
        self.given: Final[deque[int]] = deque()
        """Bytes given back and not yet taken off. Finalizers append to it: they may run at any moment, in a thread that
        has the lock as in any other, and a deque needs none."""
        # The collector may run a finalizer that rents while the lock is held by the same thread.
        self._lock = threading.RLock()
        self._used = self._peak = self._charges = 0
        self._coming = 0
        """Charged, and not occupied yet by the process: what several threads allocate at once counts for each other."""
        self._collections = self._requests = self._refusals = 0
        self._in_vain_at = -_PATIENCE_SECONDS

    @property
    def ceiling_bytes(self) -> int | None:
        """The limit in force; None for none."""
        return self._ceiling

    def resize(self, ceiling_bytes: int | None) -> None:
        """Take another limit. Where less than is used, idle buffers go at once, and rented ones are waited for.

        :raises ConfigurationError: if it is no whole number from 1 up; the old limit then stays.
        """
        self._ceiling = _limit(ceiling_bytes)
        if ceiling_bytes is not None and (excess := self.used_bytes - ceiling_bytes) > 0:
            self.trim(excess)

    @property
    def used_bytes(self) -> int:
        """Rented and idle, of all pools."""
        with self._lock:
            return self._settle()

    def join(self, pool: Trimmed) -> None:
        """Have `pool` trimmed when there is no room. It is held weakly."""
        with self._lock:
            self._pools[id(pool)] = weakref.ref(pool)

    def leave(self, pool: Trimmed) -> None:
        """Have `pool` trimmed no more."""
        with self._lock:
            self._pools.pop(id(pool), None)

    @contextmanager
    def taken(self, nbytes: int, owner: str | None = None) -> Iterator[None]:
        """Put `nbytes` bytes on the account, after making room where there is none; they are allocated in the block.

        If that raises they are taken off again.

        :param owner: who wants them. It is not asked for room: it may hold locks that it would wait for.
        :raises CeilingExceeded: if there is no room whatever is done.
        """
        self._take(nbytes, owner)
        try:
            yield
        except BaseException:
            self.given.append(nbytes)
            raise
        finally:
            with self._lock:
                self._coming -= nbytes

    def _take(self, nbytes: int, owner: str | None) -> None:
        if self._charge(nbytes):
            return
        if self._ceiling is None or nbytes <= self._ceiling:
            for step in (self.trim, self._collect, lambda nbytes: self._ask(nbytes, owner)):
                step(nbytes)
                if self.process is not None:
                    self.process.hand_back()
                if self._charge(nbytes):
                    return
        with self._lock:
            self._refusals += 1
            self._in_vain_at = time.monotonic()
            used = self._settle() if self.process is None else self.process.usage_bytes()
        raise _exceeded(nbytes, used, self._ceiling)

    def trim(self, nbytes: int) -> int:
        """Let go of idle buffers of all pools until `nbytes` bytes are free; the bytes that went."""
        freed = 0
        with self._lock:
            pools = list(self._pools.items())
        for key, reference in pools:
            pool = reference()
            if pool is None:
                self._forget(key, reference)
            elif freed < nbytes:
                freed += pool.trim(nbytes - freed)
        return freed

    def statistics(self) -> CeilingStatistics:
        """What it holds and did so far, all of one moment."""
        with self._lock:
            return CeilingStatistics(
                ceiling_bytes=self._ceiling,
                used_bytes=self._settle(),
                peak_bytes=self._peak,
                charges=self._charges,
                collections=self._collections,
                requests=self._requests,
                refusals=self._refusals,
            )

    def _forget(self, key: int, reference: weakref.ref[Trimmed]) -> None:
        with self._lock:
            if self._pools.get(key) is reference:
                del self._pools[key]

    def _settle(self) -> int:
        """Take off what came back; what is used now. Under the lock."""
        while self.given:
            self._used -= self.given.popleft()
        return self._used

    def _charge(self, nbytes: int) -> bool:
        with self._lock:
            used = self._settle() + nbytes
            if self._ceiling is not None and max(used, self._would_occupy(nbytes)) > self._ceiling:
                return False
            self._used = used
            self._coming += nbytes
            self._peak = max(self._peak, used)
            self._charges += 1
            return True

    def _would_occupy(self, nbytes: int) -> int:
        return 0 if self.process is None else self.process.usage_bytes() + self._coming + nbytes

    def _collect(self, nbytes: int) -> None:
        """Buffers that were dropped in a ring of references come back; the collector may leave some of them idle.

        After a full collection that did not help, for a moment only the younger generations are collected: who is
        refused tries again at once, and a full one stops every thread.
        """
        now = time.monotonic()
        with self._lock:
            self._collections += 1
            again = now - self._in_vain_at < _PATIENCE_SECONDS
        gc.collect(1 if again else 2)
        self.trim(nbytes)

    def _ask(self, nbytes: int, owner: str | None) -> None:
        if self.process is None:
            return
        with self._lock:
            self._requests += 1
        self.process.make_room(nbytes, owner)
        self.trim(nbytes)


def _limit(ceiling_bytes: int | None) -> int | None:
    return None if ceiling_bytes is None else whole_number("ceiling_bytes", ceiling_bytes, least=1)


def _exceeded(nbytes: int, used: int, ceiling: int | None) -> CeilingExceeded:
    return CeilingExceeded(
        f"no room for a buffer of {nbytes} bytes: {used} bytes are in use and the ceiling is {ceiling}",
        used_bytes=used,
        wanted_bytes=nbytes,
        ceiling_bytes=ceiling,
        advice="Rent less at a time, return buffers sooner, or raise the ceiling",
    )
