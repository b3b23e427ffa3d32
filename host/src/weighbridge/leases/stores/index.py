"""The index of the embedded store: a SQLite file with every key, and with the values that are small."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar
from weakref import WeakSet

import attrs
from weighbridge_hookspecs import CeilingExceeded, ConfigurationError, LeaseError, StorageDamaged, StorageFailed

from .holder import holder_of
from .namespace import Usage
from .reserve import Reserve

T = TypeVar("T")

_APPLICATION: Final = 0x57425354  # "WBST": https://www.sqlite.org/pragma.html#pragma_application_id
_VERSION: Final = 1
_RESERVE_BYTES: Final = 1024 * 1024  # a log that has to be folded into the file, and a change
_PAGE: Final = 256  # keys that are fetched at once
_FREED_PAGES: Final = 4096  # 16 MiB: what closing gives back to the disk at most
_ATTEMPTS: Final = 40  # about half a second: one that is about to let go is waited for

# The locking mode comes first: then no shared memory is used, and no second writer can ever meet the bug of SQLite
# before 3.51.3 that damages a database in WAL mode: https://www.sqlite.org/wal.html#the_wal_reset_bug
_LOCKING: Final = "PRAGMA locking_mode=EXCLUSIVE"
_SETTINGS: Final = (
    "PRAGMA synchronous=FULL",  # a commit is on the disk: https://www.sqlite.org/pragma.html#pragma_synchronous
    "PRAGMA fullfsync=ON",  # macOS: through the cache of the disk, too
    "PRAGMA cache_size=-1024",  # KiB
    "PRAGMA mmap_size=0",
    "PRAGMA wal_autocheckpoint=128",  # pages: half a MiB of log, by which the file may have to grow
    f"PRAGMA journal_size_limit={4 << 20}",
)
_SCHEMA: Final = (
    "CREATE TABLE entries (namespace TEXT NOT NULL, key TEXT NOT NULL, size INTEGER NOT NULL,"
    " checksum INTEGER NOT NULL, file TEXT, value BLOB, PRIMARY KEY (namespace, key))",
    "CREATE UNIQUE INDEX entries_by_file ON entries (file) WHERE file IS NOT NULL",
    "CREATE TABLE totals (namespace TEXT PRIMARY KEY, keys INTEGER NOT NULL, bytes INTEGER NOT NULL,"
    " files INTEGER NOT NULL) WITHOUT ROWID",
    f"PRAGMA application_id={_APPLICATION}",
    f"PRAGMA user_version={_VERSION}",
)
_ENTER: Final = (
    "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (namespace, key) DO UPDATE SET"
    " size=excluded.size, checksum=excluded.checksum, file=excluded.file, value=excluded.value"
)
_COUNT: Final = (
    "INSERT INTO totals VALUES (?, ?, ?, ?) ON CONFLICT (namespace) DO UPDATE SET"
    " keys=keys+excluded.keys, bytes=bytes+excluded.bytes, files=files+excluded.files"
)


@attrs.frozen(kw_only=True)
class Entry:
    """One value: its size and checksum, and either the value or the name of its file."""

    size: int
    checksum: int
    file: str | None = None
    value: bytes | None = None


class Index:
    """One connection to one file. Not thread-safe; one call at a time."""

    def __init__(self, path: str) -> None:
        """Open or begin `path` and lock it; `is_new` says whether `create` has to be called.

        :raises ConfigurationError: if it is locked, is not ours, or may not be written.
        :raises StorageDamaged: if it is no database, or a broken one.
        """
        self.path: Final = path
        self.is_certain = True
        """False once a commit failed in a way that leaves open whether it comes back after a crash."""
        self._is_full = False
        self._reserve: Final = Reserve(f"{path}.reserve", _RESERVE_BYTES)
        self._connection = self._seize()
        try:
            self.is_new: Final = self._begin()
        except BaseException:
            self._connection.close()
            raise
        self._reserve.make()
        _OPEN.add(self)

    def _seize(self) -> sqlite3.Connection:
        """Open the file and lock it; let go and try again for a moment if somebody else has it.

        Those that come at the same moment stand in each other's way. Each lets go before it tries again, and they wait
        for different times, so that one of them gets through.
        """
        for left in reversed(range(_ATTEMPTS)):
            try:
                return _locked(self.path)
            except sqlite3.Error as error:
                if _code(error) != sqlite3.SQLITE_BUSY or not left:
                    raise self._translated(error) from None
            time.sleep(0.001 + os.urandom(1)[0] / 12_800)
        raise AssertionError("the last attempt returns or raises")

    def _begin(self) -> bool:
        """Look whose file it is before anything is written, then set it up; whether it has no tables yet."""
        application, version = self._number("PRAGMA application_id"), self._number("PRAGMA user_version")
        is_new = not (application or version or self._number("SELECT count(*) FROM sqlite_master"))
        if not is_new and application != _APPLICATION:
            raise ConfigurationError(f"{self.path} is the database of another program", advice="Name another file")
        if version > _VERSION:
            raise ConfigurationError(
                f"{self.path} was written by a later version of Weighbridge",
                wanted=f"format {_VERSION}",
                had=f"format {version}",
                advice="Use that version, or name another file",
            )
        self._execute("PRAGMA journal_mode=WAL")
        for setting in _SETTINGS:
            self._execute(setting)
        return is_new

    def create(self) -> None:
        """Make the tables of a new file."""
        self._change(lambda: [self._execute(statement) for statement in _SCHEMA])

    def find(self, namespace: str, key: str) -> Entry | None:
        """What is known about a key."""
        rows = self._execute(
            "SELECT size, checksum, file, value FROM entries WHERE namespace=? AND key=?", (namespace, key)
        )
        if not rows:
            return None
        size, checksum, file, value = rows[0]
        return Entry(size=size, checksum=checksum, file=file, value=value)

    def enter(self, namespace: str, key: str, entry: Entry, max_bytes: int | None) -> str | None:
        """Write an entry down; when this returns it survives a crash.

        :returns: the name of a file that nobody refers to any more.
        :raises CeilingExceeded: if the namespace would hold more than `max_bytes`.
        """
        return self._change(lambda: self._enter(namespace, key, entry, max_bytes))

    def remove(self, namespace: str, key: str) -> str | None:
        """Strike an entry out; gives the name of its file, to which nobody refers any more. Call `settle` then."""
        return self._shrink(lambda: self._remove(namespace, key))

    def drop(self, namespace: str) -> list[str]:
        """Strike out a whole namespace; gives the names of its files. Call `settle` then."""
        return self._shrink(lambda: self._drop(namespace))

    def settle(self) -> None:
        """Keep room for the next delete, once files were removed and there is some."""
        self._reserve.make()

    def check_room(self, namespace: str, key: str, size: int, max_bytes: int | None) -> None:
        """Whether a value may come.

        :raises CeilingExceeded: if the namespace would hold more than `max_bytes`.
        """
        self._room(namespace, key, size, max_bytes)

    def keys(self, namespace: str, begin: str, *, after: str | None = None) -> Sequence[str]:
        """The next keys of a namespace from `begin` on, sorted, or those behind `after`."""
        behind = "key>=?" if after is None else "key>?"
        rows = self._execute(
            f"SELECT key FROM entries WHERE namespace=? AND {behind} ORDER BY key LIMIT {_PAGE}",
            (namespace, begin if after is None else after),
        )
        return [key for (key,) in rows]

    def namespaces(self) -> Sequence[str]:
        """The namespaces that hold something, sorted."""
        return [name for (name,) in self._execute("SELECT namespace FROM totals WHERE keys>0 ORDER BY namespace")]

    def usage(self, namespace: str | None = None) -> Usage:
        """What a namespace holds, or all of them."""
        total = "SELECT coalesce(sum(keys), 0), coalesce(sum(bytes), 0), coalesce(sum(files), 0) FROM totals"
        rows = self._execute(total) if namespace is None else self._execute(f"{total} WHERE namespace=?", (namespace,))
        keys, nbytes, files = rows[0]
        return Usage(keys=keys, bytes=nbytes, files=files)

    def refers_to(self, file: str) -> bool:
        """Whether an entry has its value in `file`."""
        return bool(self._execute("SELECT 1 FROM entries WHERE file=?", (file,)))

    def problems(self) -> Sequence[str]:
        """What SQLite finds wrong with the file itself: https://www.sqlite.org/pragma.html#pragma_integrity_check."""
        return [text for (text,) in self._execute("PRAGMA integrity_check(20)") if text != "ok"]

    def close(self) -> None:
        """Give free pages back to the disk, fold the log into the file, and unlock it."""
        with suppress(sqlite3.Error):  # the pages are used for the next values then
            # A script, because `execute` takes a single step of a pragma without columns, which is a single page.
            self._connection.executescript(f"PRAGMA incremental_vacuum({_FREED_PAGES})")
        _OPEN.discard(self)
        self._connection.close()

    def abandon(self) -> None:
        """Never close the connection: in a forked child that would remove the log that the parent writes.

        https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_
        """
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))

    def _enter(self, namespace: str, key: str, entry: Entry, max_bytes: int | None) -> str | None:
        old = self._room(namespace, key, entry.size, max_bytes)
        self._execute(_ENTER, (namespace, key, entry.size, entry.checksum, entry.file, entry.value))
        self._count(namespace, old, entry)
        return old.file if old else None

    def _remove(self, namespace: str, key: str) -> str | None:
        old = self._outline(namespace, key)
        if old is None:
            return None
        self._execute("DELETE FROM entries WHERE namespace=? AND key=?", (namespace, key))
        self._count(namespace, old, None)
        return old.file

    def _drop(self, namespace: str) -> list[str]:
        rows = self._execute("SELECT file FROM entries WHERE namespace=? AND file IS NOT NULL", (namespace,))
        self._execute("DELETE FROM entries WHERE namespace=?", (namespace,))
        self._execute("DELETE FROM totals WHERE namespace=?", (namespace,))
        return [file for (file,) in rows]

    def _outline(self, namespace: str, key: str) -> Entry | None:
        rows = self._execute("SELECT size, file FROM entries WHERE namespace=? AND key=?", (namespace, key))
        return Entry(size=rows[0][0], checksum=0, file=rows[0][1]) if rows else None

    def _room(self, namespace: str, key: str, size: int, max_bytes: int | None) -> Entry | None:
        old = self._outline(namespace, key)
        if max_bytes is None:
            return old
        used = (self.usage(namespace).bytes or 0) - (old.size if old else 0)
        if used + size > max_bytes:
            raise CeilingExceeded(
                f"the store {namespace!r} holds {used} bytes besides {key!r}; {size} more are above its {max_bytes}",
                used_bytes=used,
                wanted_bytes=size,
                ceiling_bytes=max_bytes,
                advice="Delete keys, or give the namespace more bytes",
            )
        return old

    def _count(self, namespace: str, old: Entry | None, new: Entry | None) -> None:
        before, after = _figures(old), _figures(new)
        self._execute(_COUNT, (namespace, *(now - then for now, then in zip(after, before, strict=True))))

    def _shrink(self, change: Callable[[], T]) -> T:
        """Make a change that needs less room afterwards; where the disk is full, with the room that was kept for it."""
        self._is_full = False
        try:
            return self._change(change)
        except StorageFailed:
            if not self._is_full:
                raise
        self._reserve.give_up()
        with suppress(LeaseError):  # the log can be written from its beginning then
            self._execute("PRAGMA wal_checkpoint(RESTART)")
        return self._change(change)

    def _change(self, change: Callable[[], T]) -> T:
        with self._transaction():
            return change()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if self._connection.in_transaction:
            raise StorageFailed(
                f"{self.path}: a put or a delete runs in this thread already",
                advice="Use no store in a signal handler or in a finalizer",
            )
        self._execute("BEGIN IMMEDIATE")
        try:
            yield
            self._commit()
        except BaseException:
            with suppress(sqlite3.Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            raise

    def _commit(self) -> None:
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if _code(error) == sqlite3.SQLITE_IOERR:
                self.is_certain = False
            raise self._translated(error) from None

    def _number(self, statement: str) -> int:
        return int(self._execute(statement)[0][0])

    def _execute(self, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._connection.execute(statement, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._translated(error) from None

    def _translated(self, error: sqlite3.Error) -> ConfigurationError | LeaseError:
        match _code(error):
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return ConfigurationError(
                    f"the store {self.path} is in use by {holder_of(self.path)}",
                    step="open",
                    advice="Close it there, or name another file here",
                )
            case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
                return ConfigurationError(
                    f"the store {self.path} cannot be opened for writing: {error}",
                    step="open",
                    advice="Let this user write the file and its folder, or name another file",
                )
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                return StorageDamaged(
                    f"the index {self.path} is damaged: {error}",
                    advice="Move it away together with its folder of values, and restore both",
                )
            case sqlite3.SQLITE_FULL:
                self._is_full = True
                return StorageFailed(
                    f"there is no room left for {self.path}: {error}", advice="Make room and try again"
                )
        return StorageFailed(f"{self.path}: {error}")


def _locked(path: str) -> sqlite3.Connection:
    """A connection that has the file for itself, and has written nothing.

    :raises sqlite3.Error: if it cannot be had.
    """
    connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    first = () if os.path.getsize(path) else ("PRAGMA auto_vacuum=INCREMENTAL",)  # works before the first page only
    try:
        for statement in (_LOCKING, *first, "BEGIN EXCLUSIVE", "COMMIT"):
            connection.execute(statement)
    except BaseException:
        connection.close()
        raise
    return connection


def _code(error: sqlite3.Error) -> int | None:
    """The primary result code: https://www.sqlite.org/rescode.html."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _figures(entry: Entry | None) -> tuple[int, int, int]:
    return (0, 0, 0) if entry is None else (1, entry.size, int(entry.file is not None))


_OPEN: Final[WeakSet[Index]] = WeakSet()


def _abandon_all() -> None:
    for index in list(_OPEN):
        index.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
