"""Namespaces of a store in object storage, through `obstore`: S3, Google Cloud, Azure, a folder, memory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

from weighbridge_hookspecs import ConfigurationError, ContextClosed, StorageDamaged, StorageFailed

from .stores.checks import checked_namespace, checked_size
from .stores.namespace import NamespaceStore, StoreStatistics, Usage

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["NamespaceStore", "ObjectBucket", "StoreStatistics"]

MAX_VALUE_BYTES: Final = 256 * 1024 * 1024
"""What one value may have by default: it is read and written in one piece."""

# Letters that are fine in a name of every service and of every file system; others become "!" and two digits.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html#object-key-guidelines
_OTHERS: Final = re.compile(rb"^\.|[^A-Za-z0-9_.-]")
# A name of a file has 255 bytes at most. What is longer becomes folders, whose names end with "!", so that none has the
# name of a file; what is in them begins with "-", so that none is ".".
_SEGMENT: Final = 200
# Where an address may carry a secret: a signature behind the question mark, a password before the host.
_QUERY: Final = re.compile(r"\?[^\s\"')]+")
_USER: Final = re.compile(r"//[^/@\s]+@")


class ObjectBucket:
    """Many namespaces in one bucket, each a prefix. Thread-safe as `obstore` is.

    A value is one object, and a put replaces it whole. When `put` returns, the service has accepted it; a folder has
    it in the cache of the system, so it survives a crash of the process and not one of the machine. Several processes
    may use one bucket; the last put wins.
    """

    def __init__(self, objects: ObjectStore | str, *, max_value_bytes: int = MAX_VALUE_BYTES, **options: Any) -> None:
        """Open a bucket; nothing is asked of it yet.

        :param objects: a store of `obstore`, or an address such as ``"s3://bucket/prefix"``.
        :param max_value_bytes: what one value may have, in either direction.
        :param options: with an address, what `obstore.store.from_url` takes: ``client_options``, ``retry_config``,
            ``region`` ... Its retries and timeouts bound how long a call takes.
        :raises ConfigurationError: if `obstore` is not installed, or does not know what to do with the address.
        """
        self.max_value_bytes = checked_size(max_value_bytes, "max_value_bytes")
        self._objects: ObjectStore | None = _from_address(objects, options) if isinstance(objects, str) else objects
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"<ObjectBucket {'closed' if self._objects is None else 'open'}>"

    def __enter__(self) -> ObjectBucket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def namespace(self, name: str, *, max_bytes: int | None = None) -> NamespaceStore:
        """A store of keys of its own.

        :raises ConfigurationError: if there can be no namespace of that name, or if `max_bytes` is given: others may
            write to the bucket, so nobody here knows what it holds. The service has quotas for that.
        :raises ContextClosed: after `close`.
        """
        self._opened()
        if max_bytes is not None:
            raise ConfigurationError(
                f"the store {name!r} is in object storage, which takes no max_bytes",
                advice="Set a quota on the bucket, or use the embedded store",
            )
        return NamespaceStore(self, name)

    def drop(self, name: str) -> None:
        """Forget every key of a namespace; its handles stay usable.

        :raises ConfigurationError: if there can be no namespace of that name.
        """
        name = checked_namespace(name)
        for key in list(self.list(name, "")):
            self.remove(name, key)

    def close(self) -> None:
        """Let go of the bucket and its connections. Closing twice does nothing.

        The threads of `obstore` are one set for the process, and stay until it ends.
        """
        self._objects = None

    # -- what a handle calls ---------------------------------------------------------------------------------------

    def read(self, namespace: str, key: str) -> bytes | None:
        """The value of a key; see :meth:`NamespaceStore.get`.

        :raises StorageDamaged: if it is larger than any value that was put here.
        """
        objects, place = self._opened(), _place(namespace, key)
        with _asked(f"get {key!r} of the store {namespace!r}"):
            try:
                found = objects.get(place)
            except FileNotFoundError:
                return None
            if found.meta["size"] <= self.max_value_bytes:
                return bytes(found.bytes())
            nbytes = found.meta["size"]
        raise StorageDamaged(
            f"the object {place} is larger than a value",
            wanted=f"{self.max_value_bytes} bytes at most",
            had=f"{nbytes} bytes",
            advice="See who wrote it, or delete the key",
        )

    def write(self, namespace: str, key: str, value: bytes, max_bytes: int | None) -> None:
        """Keep a value; see :meth:`NamespaceStore.put`."""
        objects = self._opened()
        with _asked(f"put {key!r} into the store {namespace!r}"):
            objects.put(_place(namespace, key), value)

    def remove(self, namespace: str, key: str) -> None:
        """Forget a key; see :meth:`NamespaceStore.delete`."""
        objects = self._opened()
        with _asked(f"delete {key!r} from the store {namespace!r}"):
            try:
                objects.delete(_place(namespace, key))
            except FileNotFoundError:
                return

    def list(self, namespace: str, prefix: str) -> Iterator[str]:
        """Keys, sorted, all of them in memory: object storage has no order of keys. See :meth:`NamespaceStore.keys`."""
        objects = self._opened()
        inside = f"{_escaped(namespace)}/"
        keys = []
        with _asked(f"list the store {namespace!r}"):
            for chunk in objects.list(inside):
                keys += [key for one in chunk if (key := _key(one["path"].removeprefix(inside))) is not None]
        return iter(sorted(key for key in keys if key.startswith(prefix)))

    def usage(self, namespace: str) -> Usage:
        """Not known: only listing every object would tell."""
        self._opened()
        return Usage(keys=None, bytes=None, files=None)

    def _opened(self) -> ObjectStore:
        objects = self._objects
        if objects is None:
            raise ContextClosed("the bucket is closed", advice="Open it again")
        if os.getpid() != self._pid:
            raise ContextClosed(
                f"the bucket was opened by process {self._pid}, which forked this one", advice="Open it after the fork"
            )
        return objects


def _from_address(address: str, options: dict[str, Any]) -> ObjectStore:
    try:
        from obstore.store import from_url
    except ImportError:
        raise ConfigurationError(
            "object storage needs obstore, which is not installed",
            step="open",
            advice="Install it with: pip install 'weighbridge[remote]'",
        ) from None
    try:
        return from_url(address, **options)
    except Exception as error:  # a Rust library: every wrong option is an error of another kind
        raise ConfigurationError(
            f"the store {_without_secrets(address)} cannot be opened: {_first_line(error)}",
            step="open",
            advice="See the addresses and options of obstore.store.from_url",
        ) from None


@contextmanager
def _asked(what: str) -> Iterator[None]:
    """Turn what `obstore` raises into our errors."""
    try:
        yield
    except Exception as error:  # its own tree, and built-in ones besides
        raise StorageFailed(
            f"the object storage did not {what}: {_first_line(error)}", advice="See whether it is within reach"
        ) from None


def _first_line(error: Exception) -> str:
    """What it says, without what follows for debugging."""
    lines = str(error).splitlines() or [""]
    return _without_secrets(f"{type(error).__name__}: {lines[0]}")


def _without_secrets(text: str) -> str:
    return _USER.sub("//...@", _QUERY.sub("?...", text))


def _place(namespace: str, key: str) -> str:
    name = _escaped(key)
    parts = [name[start : start + _SEGMENT] for start in range(0, len(name), _SEGMENT)]
    return "/".join([_escaped(namespace), "!/-".join(parts)])


def _escaped(text: str) -> str:
    return _OTHERS.sub(lambda found: b"!%02X" % found[0][0], text.encode("utf-8")).decode("ascii")


def _key(place: str) -> str | None:
    """The key of an object; None for one that was not put here."""
    try:
        key = unquote_to_bytes(place.replace("!/-", "").replace("!", "%")).decode("utf-8")
    except UnicodeDecodeError:
        return None
    return key if _place("-", key) == f"-/{place}" else None
