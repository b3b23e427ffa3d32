"""@sqlite.org/sqlite-wasm: SQLite's C interface (https://www.sqlite.org/c3ref/funclist.html), databases in memory."""

from __future__ import annotations

import errno
import random as randoms
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from random import Random
from typing import Any, Final

import attrs

from ..catalogue import SQLITE, Module
from .driver import Guest, unsigned, words

ROW, DONE = 100, 101
NOT_THERE: Final = -44
"""ENOENT in the numbers of emscripten: there is no file, neither a database's nor one with random numbers."""

# fmt: off
_SYSTEM_CALLS: Final = (
    "faccessat", "fchmod", "chmod", "fchown32", "fcntl64", "openat", "ioctl", "fstat64", "stat64", "newfstatat",
    "lstat64", "ftruncate64", "getcwd", "mkdirat", "readlinkat", "rmdir", "unlinkat", "utimensat",
)
_WASI_CALLS: Final = (
    "fd_close", "fd_write", "fd_read", "fd_sync", "environ_sizes_get", "environ_get", "fd_seek", "fd_fdstat_get",
)
# fmt: on


def _nothing(*_: object) -> None:
    """A call without a result, that changes nothing."""


def _imports() -> dict[str, Callable[..., Any]]:
    """A machine without files, on which no time passes: an instance that is given the same does the same."""
    return {
        **{f"env.__syscall_{name}": lambda *_: NOT_THERE for name in _SYSTEM_CALLS},
        **{f"wasi_snapshot_preview1.{name}": lambda *_: errno.EBADF for name in _WASI_CALLS},
        "env._tzset_js": _nothing,
        "env._localtime_js": _nothing,
        "env.emscripten_date_now": lambda: 1e12,
        "env.emscripten_get_now": lambda: 1e6,
        "env._emscripten_get_now_is_monotonic": lambda: 1,
        "env.emscripten_resize_heap": lambda _: 0,
    }


@attrs.frozen
class Sqlite:
    """A table of what the input says, and what a query makes of it."""

    module: Module = SQLITE
    functions: Mapping[str, Callable[..., Any]] = attrs.field(factory=_imports)

    def input(self, random: Random) -> bytes:
        return random.randbytes(8)

    def run(self, guest: Guest, data: bytes) -> bytes:
        start(guest)
        database = Database.open(guest)
        for statement in script(data):
            database.execute(statement)
        rows = database.execute(QUERY)
        database.close()
        return repr(rows).encode()

    def is_right(self, data: bytes, output: bytes) -> bool:
        database = sqlite3.connect(":memory:")
        try:
            for statement in script(data):
                database.execute(statement)
            rows = [tuple(map(_as_text, row)) for row in database.execute(QUERY)]
        finally:
            database.close()
        return output == repr(rows).encode()


QUERY: Final = """
SELECT group_concat(line, ';') FROM (
    SELECT (k % 7) || ',' || count(*) || ',' || sum(v) || ',' || group_concat(hex(b), '') AS line
    FROM t GROUP BY k % 7 ORDER BY k % 7
)"""


def script(data: bytes) -> list[str]:
    """Statements that the input decides: which rows, and which of them go again."""
    random = randoms.Random(data)
    rows = ", ".join(
        f"({key}, {random.randrange(10**6)}, x'{random.randbytes(random.randrange(30)).hex()}')" for key in range(40)
    )
    return [
        "CREATE TABLE t (k INTEGER PRIMARY KEY, v INTEGER, b BLOB)",
        f"INSERT INTO t VALUES {rows}",
        f"DELETE FROM t WHERE v % 5 = {random.randrange(5)}",
        "CREATE INDEX i ON t (v)",
    ]


def start(guest: Guest) -> None:
    """What the page that loads the module does first."""
    guest.call("__wasm_call_ctors", ())
    _succeed("sqlite3_initialize", guest.call("sqlite3_initialize", ()))


@attrs.frozen
class Database:
    """A connection in an instance.

    :param handle: its address there; it is good in a copy of the instance's memory, too.
    """

    guest: Guest
    handle: int

    @classmethod
    def open(cls, guest: Guest, name: str = ":memory:") -> Database:
        with _text(guest, name) as path, _room(guest, 4) as result:
            _succeed("sqlite3_open", guest.call("sqlite3_open", (path, result)))
            return cls(guest, words(guest.read(result, 4))[0])

    def execute(self, statement: str) -> list[tuple[str | None, ...]]:
        """Run one statement; the columns of its rows as text."""
        with _text(self.guest, statement) as text, _room(self.guest, 4) as result:
            prepared = self.guest.call("sqlite3_prepare_v2", (self.handle, text, -1, result, 0))
            _succeed(f"{statement:.60}", prepared)
            (handle,) = words(self.guest.read(result, 4))
            try:
                return list(self._rows(handle))
            finally:
                self.guest.call("sqlite3_finalize", (handle,))

    def close(self) -> None:
        _succeed("sqlite3_close_v2", self.guest.call("sqlite3_close_v2", (self.handle,)))

    def _rows(self, statement: int) -> Iterator[tuple[str | None, ...]]:
        columns = range(self.guest.call("sqlite3_column_count", (statement,)))
        while (code := self.guest.call("sqlite3_step", (statement,))) == ROW:
            yield tuple(self._column(statement, column) for column in columns)
        _succeed("sqlite3_step", code, DONE)

    def _column(self, statement: int, column: int) -> str | None:
        address = unsigned(self.guest.call("sqlite3_column_text", (statement, column)))
        nbytes = self.guest.call("sqlite3_column_bytes", (statement, column))
        return self.guest.read(address, nbytes).decode() if address else None


@contextmanager
def _room(guest: Guest, nbytes: int) -> Iterator[int]:
    address = unsigned(guest.call("malloc", (nbytes,)))
    yield address
    guest.call("free", (address,))


@contextmanager
def _text(guest: Guest, text: str) -> Iterator[int]:
    content = text.encode() + b"\0"
    with _room(guest, len(content)) as address:
        guest.write(address, content)
        yield address


def _succeed(what: str, code: int, wanted: int = 0) -> None:
    if code != wanted:
        raise RuntimeError(f"{what}: SQLite's code {code}")


def _as_text(value: object) -> str | None:
    return None if value is None else str(value)
