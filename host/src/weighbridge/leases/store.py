"""The embedded store: many namespaces in one SQLite file, large values as files beside it."""

from __future__ import annotations

import errno
import os
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final

import attrs
from weighbridge_hookspecs import ConfigurationError, ContextClosed, StorageDamaged

from .stores.checks import checked_namespace, checked_size
from .stores.index import Entry, Index
from .stores.namespace import NamespaceStore, StoreStatistics, Usage
from .stores.values import ValueFiles, refused, sync_folder

__all__ = ["NamespaceStore", "StoreFile", "StoreFileStatistics", "StoreStatistics"]

FILE_BYTES: Final = 64 * 1024
"""From this size up a value is a file of its own: below, one commit is cheaper than a file."""
MAX_VALUE_BYTES: Final = 256 * 1024 * 1024
"""What one value may have by default: it is read and written in one piece."""


@attrs.frozen(kw_only=True)
class StoreFileStatistics:
    """What all namespaces of a file hold together."""

    namespaces: int
    """Namespaces that hold something."""
    keys: int
    bytes: int
    """The sum of the sizes of all values."""
    files: int
    """Values that are files of their own."""
    disk_bytes: int
    """What the index and its log take on the disk, files of values not counted."""
    swept: int
    """Files of values that nobody referred to, removed when the store was opened."""


class StoreFile:
    """One file of keys and values, locked for this object alone. Thread-safe.

    What `put` has acknowledged survives a crash of the process and of the machine. A forked child cannot use it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        file_bytes: int = FILE_BYTES,
        max_value_bytes: int = MAX_VALUE_BYTES,
    ) -> None:
        """Open `path`, or begin it; large values are in the folder ``<path>.values``.

        :param file_bytes: the size in bytes from which a value is a file of its own.
        :param max_value_bytes: what one value may have.
        :raises ConfigurationError: if the folder is not there or may not be written, if somebody has the file open
            already, or if it is the database of another program.
        :raises StorageDamaged: if it cannot be read, or if its values are there and it is not.
        :raises StorageFailed: if the disk is full or broken.
        """
        self.path: Final = Path(os.path.realpath(os.fspath(path)))
        self.file_bytes: Final = checked_size(file_bytes, "file_bytes")
        self.max_value_bytes = checked_size(max_value_bytes, "max_value_bytes")
        self._values: Final = ValueFiles(f"{self.path}.values")
        self._lock = threading.RLock()
        self._writing = threading.RLock()  # one large value at a time, so that close has only one to wait for
        self._pid = os.getpid()
        _touch(self.path)
        self._index: Index | None = Index(str(self.path))
        try:
            self._swept = self._begin(self._index)
        except BaseException:
            self._index.close()
            raise

    def __repr__(self) -> str:
        return f"<StoreFile {str(self.path)!r} {'closed' if self._index is None else 'open'}>"

    def __enter__(self) -> StoreFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def namespace(self, name: str, *, max_bytes: int | None = None) -> NamespaceStore:
        """A store of keys of its own. Handles of the same name see the same keys.

        :param name: of 1 to 64 bytes in UTF-8.
        :param max_bytes: what the values of the namespace may have together; None is no bound.
        :raises ConfigurationError: if there can be no namespace of that name.
        :raises ContextClosed: after `close`.
        """
        with self._opened():
            return NamespaceStore(self, name, max_bytes=max_bytes)

    def namespaces(self) -> tuple[str, ...]:
        """The namespaces that hold something, sorted."""
        with self._opened() as index:
            return tuple(index.namespaces())

    def drop(self, name: str) -> None:
        """Forget every key of a namespace; its handles stay usable.

        :raises ConfigurationError: if there can be no namespace of that name.
        :raises ContextClosed: after `close`.
        """
        name = checked_namespace(name)
        with self._opened() as index:
            for file in index.drop(name):
                self._values.discard(file)
            index.settle()

    def verify(self) -> tuple[str, ...]:
        """Read every value and the whole index; one line for each thing that is wrong."""
        with self._opened() as index:
            problems = [f"{self.path}: {text}" for text in index.problems()]
        for name in self.namespaces():
            for key in self.list(name, ""):
                try:
                    self.read(name, key)
                except StorageDamaged as error:
                    problems.append(str(error))
        return tuple(problems)

    def statistics(self) -> StoreFileStatistics:
        """What is held now."""
        with self._opened() as index:
            held = index.usage()
            return StoreFileStatistics(
                namespaces=len(index.namespaces()),
                keys=held.keys or 0,
                bytes=held.bytes or 0,
                files=held.files or 0,
                disk_bytes=sum(_size(path) for path in (str(self.path), f"{self.path}-wal")),
                swept=self._swept,
            )

    def close(self) -> None:
        """Wait for what is being written, then close and unlock the file. Closing twice does nothing."""
        if os.getpid() != self._pid:
            self._index = None  # a lock may be held by a thread that this process has not; nothing is to be undone
            return
        with self._writing, self._lock:
            index, self._index = self._index, None
            if index is not None:
                index.close()

    # -- what a handle calls ---------------------------------------------------------------------------------------

    def read(self, namespace: str, key: str) -> bytes | None:
        """The value of a key, its checksum verified; see :meth:`NamespaceStore.get`."""
        with self._opened() as index:
            entry = index.find(namespace, key)
            if entry is None:
                return None
            # Opened here, since a put may remove the file as soon as the lock is free; read there, since it takes time.
            file = None if entry.file is None else self._values.open(entry.file)
        value = entry.value if file is None else self._values.read(file)
        if not isinstance(value, bytes) or len(value) != entry.size or zlib.crc32(value) != entry.checksum:
            raise self._damaged(namespace, key, entry, value)
        return value

    def write(self, namespace: str, key: str, value: bytes, max_bytes: int | None) -> None:
        """Keep a value; see :meth:`NamespaceStore.put`."""
        checksum = zlib.crc32(value)  # against accidents: it takes a third of the time of a cryptographic one
        if len(value) < self.file_bytes:
            self._enter(namespace, key, Entry(size=len(value), checksum=checksum, value=value), max_bytes)
            return
        with self._writing:
            with self._opened() as index:
                index.check_room(namespace, key, len(value), max_bytes)
            file = self._values.write(value)
            try:
                self._enter(namespace, key, Entry(size=len(value), checksum=checksum, file=file), max_bytes)
            except BaseException:
                self._discard(file)
                raise

    def remove(self, namespace: str, key: str) -> None:
        """Forget a key; see :meth:`NamespaceStore.delete`."""
        with self._opened() as index:
            file = index.remove(namespace, key)
            if file is not None:
                self._values.discard(file)
            index.settle()

    def list(self, namespace: str, prefix: str) -> Iterator[str]:
        """Keys, sorted; see :meth:`NamespaceStore.keys`."""
        after: str | None = None
        while True:
            with self._opened() as index:
                keys = index.keys(namespace, prefix, after=after)
            for key in keys:
                if not key.startswith(prefix):
                    return
                yield key
            if not keys:
                return
            after = keys[-1]

    def usage(self, namespace: str) -> Usage:
        """What a namespace holds."""
        with self._opened() as index:
            return index.usage(namespace)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _begin(self, index: Index) -> int:
        """Make a new index, or remove files that an old one does not know; gives their number."""
        if not index.is_new:
            return self._sweep(index)
        if next(self._values.names(), None) is not None:
            raise StorageDamaged(
                f"{self.path} is new, and {self._values.folder} has values",
                advice="Put the index back that belongs to them, or move that folder away",
            )
        index.create()
        sync_folder(str(self.path.parent))
        return 0

    def _sweep(self, index: Index) -> int:
        orphans = [name for name in self._values.names() if not index.refers_to(name)]
        for name in orphans:
            self._values.discard(name)
        return len(orphans)

    def _enter(self, namespace: str, key: str, entry: Entry, max_bytes: int | None) -> None:
        with self._opened() as index:
            old = index.enter(namespace, key, entry, max_bytes)
            if old is not None:
                self._values.discard(old)

    def _discard(self, file: str) -> None:
        """Remove the file of a put that failed, unless the index knows it, or may know it after a crash."""
        with suppress(Exception), self._opened() as index:
            if index.is_certain and not index.refers_to(file):
                self._values.discard(file)

    @contextmanager
    def _opened(self) -> Iterator[Index]:
        if os.getpid() != self._pid:
            raise ContextClosed(
                f"the store {self.path} was opened by process {self._pid}, which forked this one",
                advice="Open it after the fork, in one process",
            )
        with self._lock:
            if self._index is None:
                raise ContextClosed(f"the store {self.path} is closed", advice="Open it again")
            yield self._index

    def _damaged(self, namespace: str, key: str, entry: Entry, value: object) -> StorageDamaged:
        place = self.path if entry.file is None else self._values.path(entry.file)
        had = "no bytes"
        if isinstance(value, bytes):
            had = f"{len(value)} bytes with checksum {zlib.crc32(value)}"
        return StorageDamaged(
            f"the value of {key!r} in the store {namespace!r} is damaged; it is in {place}",
            wanted=f"{entry.size} bytes with checksum {entry.checksum}",
            had=had,
            advice="Delete the key, or put it again",
        )


def _touch(path: Path) -> None:
    """Have the file there, readable by its owner alone, or say exactly why it cannot be.

    Only a file that was not there is opened: closing it would unlock one that is in use in this process.
    """
    if _size(f"{path}-wal") and not path.exists():
        raise StorageDamaged(  # SQLite would remove the log, and with it what is not in the index yet
            f"the log {path}-wal is there, and its index {path} is not",
            advice="Put the index back that belongs to it, or move the log away",
        )
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        if not path.is_file():
            raise ConfigurationError(f"{path} is no file", step="open", advice="Name a file for the store") from None
        if not os.access(path, os.R_OK | os.W_OK):
            raise ConfigurationError(
                f"the store {path} may not be read and written",
                step="open",
                advice="Let this user write the file, or name another one",
            ) from None
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigurationError(
            f"the folder {path.parent} for the store is not there", step="open", advice="Make it, or name another one"
        ) from None
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            refused(error, str(path))
        raise ConfigurationError(
            f"the store {path} cannot be made: {error.strerror}",
            step="open",
            advice="Let this user write the folder, or name another one",
        ) from None


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
