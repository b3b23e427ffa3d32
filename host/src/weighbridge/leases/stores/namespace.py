"""One namespace of a store, whatever holds the bytes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Protocol

import attrs
from weighbridge_hookspecs import ContextClosed

from .checks import checked_bound, checked_key, checked_namespace, checked_prefix, checked_value


@attrs.frozen(kw_only=True)
class Usage:
    """What a namespace holds. None where only asking for every key would tell."""

    keys: int | None
    bytes: int | None
    files: int | None


@attrs.frozen(kw_only=True)
class StoreStatistics:
    """What a namespace holds, and what was done through this handle."""

    keys: int | None
    """Keys there are; None where only asking for every one would tell."""
    bytes: int | None
    """The sum of the sizes of their values; None likewise."""
    files: int | None
    """Values that are files of their own; None likewise."""
    max_bytes: int | None
    """The bound on `bytes`; None where there is none."""
    puts: int
    """Values acknowledged."""
    gets: int
    """Values asked for, those that were not there among them."""
    deletes: int
    """Keys forgotten, those that were not there among them."""


class Backend(Protocol):
    """What keeps the bytes of many namespaces. Thread-safe; names, keys and values were checked."""

    max_value_bytes: int

    def read(self, namespace: str, key: str) -> bytes | None:
        """The value, or None."""

    def write(self, namespace: str, key: str, value: bytes, max_bytes: int | None) -> None:
        """Keep the value; when this returns it survives a crash."""

    def remove(self, namespace: str, key: str) -> None:
        """Forget the key."""

    def list(self, namespace: str, prefix: str) -> Iterator[str]:
        """The keys that begin with `prefix`, sorted."""

    def usage(self, namespace: str) -> Usage:
        """What the namespace holds."""


class NamespaceStore:
    """A `Store` of the contract: a handle on one namespace. Thread-safe. Closing it keeps what was stored."""

    def __init__(self, backend: Backend, name: str, *, max_bytes: int | None = None) -> None:
        self.name: Final = checked_namespace(name)
        self.max_bytes: Final = checked_bound(max_bytes, "max_bytes")
        self._backend: Backend | None = backend
        self._lock = threading.Lock()
        self._puts = 0
        self._gets = 0
        self._deletes = 0

    def __repr__(self) -> str:
        return f"<NamespaceStore {self.name!r} {'closed' if self._backend is None else 'open'}>"

    def __enter__(self) -> NamespaceStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def get(self, key: str) -> bytes | None:
        """The value as it was put, its checksum verified where the store keeps one; None if there is none.

        :raises StorageDamaged: if it is not what was put.
        :raises StorageFailed: if the disk or the remote store cannot be read.
        :raises ContextClosed: after `close`.
        """
        backend, key = self._opened(), checked_key(key)
        with self._lock:
            self._gets += 1
        return backend.read(self.name, key)

    def put(self, key: str, value: bytes) -> None:
        """Keep `value`; when this returns it survives a crash. It replaces an older one whole or not at all.

        A bytearray and a memoryview are copied first, because their owner could change them meanwhile.

        :raises CeilingExceeded: if the namespace would hold more than its `max_bytes`.
        :raises StorageFailed: if the disk is full or cannot be written, or the remote store says no.
        :raises TypeError, ValueError: if `key` or `value` is none, or too large.
        :raises ContextClosed: after `close`.
        """
        backend = self._opened()
        backend.write(self.name, checked_key(key), checked_value(value, backend.max_value_bytes), self.max_bytes)
        with self._lock:
            self._puts += 1

    def delete(self, key: str) -> None:
        """Forget `key`, damaged or not; an unknown key is fine.

        :raises StorageFailed: if the disk cannot be written, or the remote store says no.
        :raises ContextClosed: after `close`.
        """
        self._opened().remove(self.name, checked_key(key))
        with self._lock:
            self._deletes += 1

    def keys(self, prefix: str = "") -> Iterator[str]:
        """The keys that begin with `prefix`, sorted by code point.

        A key that is put or deleted meanwhile may be seen or not; every other one is seen once.

        :raises ContextClosed: after `close`, in the middle too.
        """
        found = self._opened().list(self.name, checked_prefix(prefix))
        return self._while_open(found)

    def statistics(self) -> StoreStatistics:
        """What the namespace holds now.

        :raises ContextClosed: after `close`.
        """
        held = self._opened().usage(self.name)
        with self._lock:
            return StoreStatistics(
                keys=held.keys,
                bytes=held.bytes,
                files=held.files,
                max_bytes=self.max_bytes,
                puts=self._puts,
                gets=self._gets,
                deletes=self._deletes,
            )

    def close(self) -> None:
        """Let go of the store; what was put stays there. Closing twice does nothing."""
        self._backend = None

    release = close

    def _opened(self) -> Backend:
        backend = self._backend
        if backend is None:
            raise ContextClosed(
                f"the store {self.name!r} is closed", advice="Ask the context for it while you are loaded"
            )
        return backend

    def _while_open(self, found: Iterator[str]) -> Iterator[str]:
        for key in found:
            self._opened()
            yield key
