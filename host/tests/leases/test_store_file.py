"""The embedded store: bounds, damage, full disks, and what closing gives back."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import attrs
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weighbridge_hookspecs import CeilingExceeded, ConfigurationError, StorageDamaged, StorageFailed

from weighbridge.leases.store import FILE_BYTES, NamespaceStore, StoreFile
from weighbridge.leases.stores import index as index_module
from weighbridge.leases.stores.reserve import Reserve

LARGE: Final = b"g" * FILE_BYTES


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def opened(path: Path) -> Iterator[StoreFile]:
    with StoreFile(path) as found:
        yield found


@pytest.fixture
def store(opened: StoreFile) -> NamespaceStore:
    return opened.namespace("kettle")


def files(path: Path) -> list[Path]:
    """The files of values."""
    return sorted(path.with_name(f"{path.name}.values").glob("*"))


def changed(path: Path, statement: str, *parameters: object) -> None:
    """Change a closed index behind the back of the store."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement, parameters)
    connection.close()


def test_a_store_is_used_like_this(tmp_path: Path) -> None:
    """What the page on the store shows works as it stands."""
    # snippet: embedded
    with StoreFile(tmp_path / "plugins.sqlite3") as opened:
        store = opened.namespace("kettle", max_bytes=8 * 1024 * 1024)
        store.put("teas/green", b"80")
        store.put("teas/black", b"96")
        store.put("picture", b"\xff" * 100_000)  # a file of its own
        assert store.get("teas/green") == b"80"
        assert store.get("teas/white") is None
        assert list(store.keys("teas/")) == ["teas/black", "teas/green"]
        store.delete("teas/green")
        assert store.statistics().bytes == 2 + 100_000
    # end snippet


# -- where values are --------------------------------------------------------------------------------------------------


def test_a_value_is_a_file_from_64_kib_up(store: NamespaceStore, path: Path) -> None:
    """One byte less lies in the index; a value that is replaced or deleted takes its file along."""
    store.put("tea", LARGE[:-1])
    assert files(path) == []
    store.put("tea", LARGE)
    assert [file.stat().st_size for file in files(path)] == [65_536]
    store.put("tea", LARGE + b"!")
    assert [file.stat().st_size for file in files(path)] == [65_537]
    store.put("tea", b"")
    assert files(path) == []
    store.put("tea", LARGE)
    store.delete("tea")
    assert files(path) == []


def test_everything_is_there_after_closing(path: Path) -> None:
    """Small and large values of several namespaces are read by the next one that opens the file."""
    with StoreFile(path) as opened:
        opened.namespace("a").put("small", b"1")
        opened.namespace("b").put("large", LARGE)
    with StoreFile(path) as opened:
        assert opened.namespaces() == ("a", "b")
        assert (opened.namespace("a").get("small"), opened.namespace("b").get("large")) == (b"1", LARGE)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux names an open file")
def test_a_put_is_synced_before_it_returns(opened: StoreFile, store: NamespaceStore, path: Path) -> None:
    """The index syncs each commit and has no shared memory; the file of a large value and its folder are synced."""
    connection = opened._index._connection  # type: ignore[union-attr]
    pragmas = [
        connection.execute(f"PRAGMA {name}").fetchone() for name in ("journal_mode", "locking_mode", "synchronous")
    ]
    assert pragmas == [("wal",), ("exclusive",), (2,)]  # 2 is FULL
    synced: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
        store.put("tea", LARGE)
    folder = path.with_name("store.values")
    assert synced == [str(path.parent), f"{files(path)[0]}.tmp", str(folder)]
    assert not path.with_name("store-shm").exists()


def test_nobody_else_may_read_what_is_stored(store: NamespaceStore, path: Path) -> None:
    """The index, its log and the files are the owner's alone."""
    store.put("tea", LARGE)
    found = [path, *(path.with_name(f"store{end}") for end in ("-wal", ".reserve", ".values")), *files(path)]
    assert [one.stat().st_mode & 0o077 for one in found] == [0] * 5


def test_more_keys_than_are_fetched_at_once_are_listed(store: NamespaceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys come in pages, and no key is lost or seen twice at the edge of one."""
    monkeypatch.setattr(index_module, "_PAGE", 3)
    names = [f"{letter}{number}" for letter in "abc" for number in range(6)]
    for key in names:
        store.put(key, b"")
    assert list(store.keys()) == names
    assert [list(store.keys(letter)) for letter in "abcd"] == [names[:6], names[6:12], names[12:], []]


def test_statistics_add_up(opened: StoreFile, store: NamespaceStore, path: Path) -> None:
    """Keys, bytes and files are those of the values, and what the index takes is what the system says."""
    store.put("small", b"x" * 123 * 8)
    store.put("large", LARGE)
    opened.namespace("other").put("small", b"x")
    held = store.statistics()
    assert (held.keys, held.bytes, held.files, held.max_bytes) == (2, 123 * 8 + FILE_BYTES, 1, None)
    total = opened.statistics()
    assert (total.namespaces, total.keys, total.bytes, total.files) == (2, 3, 123 * 8 + FILE_BYTES + 1, 1)
    assert total.disk_bytes == path.stat().st_size + path.with_name("store-wal").stat().st_size
    for record in (held, total):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            record.keys = 0  # type: ignore[misc]


def test_what_is_deleted_gives_its_disk_back(path: Path) -> None:
    """After closing, an index from which a megabyte was deleted is as small as one that never had it."""
    with StoreFile(path) as opened:
        opened.namespace("kettle").put("tea", b"")
    empty = path.stat().st_size
    with StoreFile(path) as opened:
        store = opened.namespace("kettle")
        for number in range(20):
            store.put(f"{number}", LARGE[:-1])
        for number in range(20):
            store.delete(f"{number}")
    assert path.stat().st_size == empty
    assert sorted(path.parent.iterdir()) == [path, path.with_name("store.reserve")]


# -- bounds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [123 * 8, FILE_BYTES])
def test_a_namespace_never_holds_more_than_its_bound(opened: StoreFile, path: Path, size: int) -> None:
    """The bound is exact, what is replaced counts no longer, and a refused value leaves everything as it was."""
    store = opened.namespace("kettle", max_bytes=2 * size)
    store.put("a", b"a" * size)
    store.put("b", b"b" * size)
    with pytest.raises(CeilingExceeded) as caught:
        store.put("c", b"c")
    error = caught.value
    assert (error.used_bytes, error.wanted_bytes, error.ceiling_bytes) == (2 * size, 1, 2 * size)
    with pytest.raises(CeilingExceeded, match=f"{size} bytes besides 'b'; {size + 1} more"):
        store.put("b", b"x" * (size + 1))
    assert len(files(path)) == (2 if size == FILE_BYTES else 0)
    store.put("b", b"B" * size)
    assert (store.get("a"), store.get("b"), store.get("c")) == (b"a" * size, b"B" * size, None)
    store.delete("a")
    store.put("c", b"c" * size)
    assert store.statistics().bytes == 2 * size
    opened.namespace("other").put("free", b"x" * 3 * size)


@pytest.mark.parametrize(
    ("bound", "error"), [(0, ValueError), (-1, ValueError), ("1 MiB", TypeError), (True, TypeError)]
)
def test_a_bound_that_makes_no_sense_is_refused(
    opened: StoreFile, path: Path, bound: Any, error: type[Exception]
) -> None:
    """Bounds are whole numbers of bytes above 0."""
    with pytest.raises(error, match="max_bytes has to be"):
        opened.namespace("kettle", max_bytes=bound)
    with pytest.raises(error, match="file_bytes has to be"):
        StoreFile(path.with_name("other"), file_bytes=bound)
    with pytest.raises(error, match="max_value_bytes has to be"):
        StoreFile(path.with_name("other"), max_value_bytes=bound)
    assert not path.with_name("other").exists()


def test_threads_together_stay_within_the_bound(opened: StoreFile) -> None:
    """Four threads that put small and large values at once never get more in than there is room."""
    store = opened.namespace("kettle", max_bytes=3 * FILE_BYTES)
    over: list[int] = []

    def work(number: int) -> None:
        for step in range(6):
            try:
                store.put(f"{number}-{step}", LARGE if step % 2 else LARGE[:9999])
            except CeilingExceeded:
                store.delete(f"{number}-{step - 1}")
            if (held := store.statistics().bytes or 0) > 3 * FILE_BYTES:
                over.append(held)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert over == []
    sizes = [len(store.get(key) or b"") for key in list(store.keys())]
    assert (store.statistics().bytes, store.statistics().keys) == (sum(sizes), len(sizes))


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 40)), max_size=12), st.integers(1, 60))
@settings(deadline=None, max_examples=20)
def test_a_put_is_refused_exactly_when_it_does_not_fit(puts: list[tuple[str, int]], bound: int) -> None:
    """Whatever is put in whatever order, a value is taken if and only if the namespace stays within its bound."""
    with tempfile.TemporaryDirectory() as folder, StoreFile(Path(folder) / "store", file_bytes=20) as opened:
        store = opened.namespace("kettle", max_bytes=bound)
        known: dict[str, int] = {}
        for key, size in puts:
            after = {**known, key: size}
            if sum(after.values()) <= bound:
                store.put(key, b"x" * size)
                known = after
            else:
                with pytest.raises(CeilingExceeded):
                    store.put(key, b"x" * size)
        assert {key: len(store.get(key) or b"") for key in list(store.keys())} == known


# -- damage ------------------------------------------------------------------------------------------------------------


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[1234] ^= 1
    file.write_bytes(content)


def shorten(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def lengthen(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


@pytest.mark.parametrize("harm", [flip, shorten, lengthen, Path.unlink], ids=lambda harm: harm.__name__)
def test_a_damaged_file_is_an_error_and_never_a_value(
    opened: StoreFile, store: NamespaceStore, path: Path, harm: Callable[[Path], None]
) -> None:
    """One wrong bit, byte or file is found out; the file stays for a look, other keys work, and a put mends the key."""
    store.put("tea", LARGE)
    (file,) = files(path)
    store.put("water", b"w" * FILE_BYTES)
    harm(file)
    there = file.exists()
    with pytest.raises(StorageDamaged, match=file.name):
        store.get("tea")
    assert file.exists() == there
    assert len(opened.verify()) == 1
    assert file.name in opened.verify()[0]
    assert store.get("water") == b"w" * FILE_BYTES
    store.put("tea", b"new")
    assert (store.get("tea"), opened.verify()) == (b"new", ())


def test_a_damaged_key_can_be_deleted(store: NamespaceStore, path: Path) -> None:
    """Forgetting a damaged value is no error, and its file goes."""
    store.put("tea", LARGE)
    flip(files(path)[0])
    store.delete("tea")
    assert (store.get("tea"), files(path)) == (None, [])


def test_files_that_changed_places_are_found_out(store: NamespaceStore, path: Path) -> None:
    """The whole value of another key, of the same size, is no value of this one."""
    store.put("tea", LARGE)
    store.put("water", b"w" * FILE_BYTES)
    first, second = files(path)
    first.rename(path.with_name("aside"))
    second.rename(first)
    path.with_name("aside").rename(second)
    for key in ("tea", "water"):
        with pytest.raises(StorageDamaged, match=f"the value of '{key}'"):
            store.get(key)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("value", b"grown"),
        ("value", "green"),
        ("value", None),
        ("size", 4),
        ("checksum", 1),
        ("checksum", "x"),
        ("file", "../store"),
    ],
)
def test_a_damaged_row_is_an_error_and_never_a_value(path: Path, column: str, value: object) -> None:
    """A value in the index is verified like a file, whichever part of its row is wrong."""
    with StoreFile(path) as opened:
        opened.namespace("kettle").put("tea", b"green")
    changed(path, f"UPDATE entries SET {column}=?", value)
    with StoreFile(path) as opened:
        with pytest.raises(StorageDamaged):
            opened.namespace("kettle").get("tea")
        opened.namespace("kettle").put("tea", b"new")
        assert opened.namespace("kettle").get("tea") == b"new"


def test_an_index_that_is_no_database_stays_as_it_is(path: Path) -> None:
    """The error says that it is damaged, and not a byte of it changes."""
    path.write_bytes(b"what somebody wrote" * 999)
    with pytest.raises(StorageDamaged, match="file is not a database"):
        StoreFile(path)
    assert path.read_bytes() == b"what somebody wrote" * 999


def test_a_broken_index_is_an_error_and_loses_no_file(path: Path) -> None:
    """An index whose pages are overwritten is refused or says so at the first use, and the values are not swept."""
    with StoreFile(path) as opened:
        opened.namespace("kettle").put("tea", LARGE)
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xff" * (len(content) - 100))
    with pytest.raises(StorageDamaged, match="is damaged"):
        StoreFile(path)
    assert [file.read_bytes() for file in files(path)] == [LARGE]
    path.write_bytes(content)
    with StoreFile(path) as opened:
        assert opened.namespace("kettle").get("tea") == LARGE


def test_values_without_their_index_are_not_swept(path: Path) -> None:
    """Where the index is missing nothing is removed, however often it is tried; once it is back, all is there."""
    with StoreFile(path) as opened:
        opened.namespace("kettle").put("tea", LARGE)
    path.rename(path.with_name("aside"))
    for _ in range(2):
        with pytest.raises(StorageDamaged, match=r"is new, and .*store.values has values"):
            StoreFile(path)
    path.with_name("aside").replace(path)
    with StoreFile(path) as opened:
        assert opened.namespace("kettle").get("tea") == LARGE


def test_a_log_without_its_index_is_not_removed(opened: StoreFile, store: NamespaceStore, path: Path) -> None:
    """After a crash the last values are in the log alone: without the index nothing is opened, and the log stays."""
    store.put("tea", b"green")
    for name in ("store", "store-wal"):  # as a crash leaves them
        shutil.copy(path.with_name(name), path.with_name(f"crashed-{name}"))
    crashed = path.with_name("crashed-store")
    crashed.rename(path.with_name("aside"))
    with pytest.raises(StorageDamaged, match=r"the log .*crashed-store-wal is there, and its index .* is not"):
        StoreFile(crashed)
    path.with_name("aside").rename(crashed)
    with StoreFile(crashed) as again:
        assert again.namespace("kettle").get("tea") == b"green"


def test_the_database_of_another_program_stays_as_it_is(path: Path) -> None:
    """It is refused before anything is written."""
    changed(path, "CREATE TABLE theirs (a)")
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="the database of another program"):
        StoreFile(path)
    assert (path.read_bytes(), list(path.parent.iterdir())) == (before, [path])


def test_a_later_format_is_refused(path: Path) -> None:
    """A file that a later version wrote is not opened by this one, which would not understand it."""
    StoreFile(path).close()
    changed(path, "PRAGMA user_version=2")
    with pytest.raises(ConfigurationError, match=r"later version .*wanted format 1, had format 2"):
        StoreFile(path)


# -- disks that say no -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "no room left"), (errno.EIO, "Input/output error")])
@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_a_large_value_that_cannot_be_written_leaves_nothing(
    store: NamespaceStore, path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, words: str
) -> None:
    """Whichever step fails, no file remains and the old value is there; once there is room, the put works."""
    store.put("tea", LARGE)
    before = files(path)

    def fail(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(StorageFailed, match=words):
            store.put("tea", LARGE * 2)
    assert (files(path), store.get("tea"), store.statistics().puts) == (before, LARGE, 1)
    store.put("tea", LARGE * 2)
    assert store.get("tea") == LARGE * 2


def test_an_index_that_cannot_grow_keeps_what_it_has(opened: StoreFile, store: NamespaceStore, path: Path) -> None:
    """SQLite's own "disk is full" becomes our error, small and large values are kept, and there is room after it."""
    store.put("tea", b"green")
    store.put("jug", LARGE)
    connection = opened._index._connection  # type: ignore[union-attr]
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StorageFailed, match="no room left"):
        store.put("tea", LARGE[:-1])
    for number in range(pages * 100):  # rows of large values need room, too
        try:
            store.put("k" * 200 + str(number), LARGE)
        except StorageFailed:
            break
    else:
        pytest.fail("the index grew beyond its bound")
    assert len(files(path)) == store.statistics().files == number + 1
    assert (store.get("tea"), store.get("jug"), opened.verify()) == (b"green", LARGE, ())
    connection.execute("PRAGMA max_page_count=100000")
    store.put("tea", LARGE[:-1])
    assert store.get("tea") == LARGE[:-1]


FILLING: Final = """
import resource, signal, sys
from weighbridge_hookspecs import StorageFailed
from weighbridge.leases.store import StoreFile

opened = StoreFile(sys.argv[1])
store = opened.namespace("kettle")
store.put("large", b"l" * 100_000)
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
try:
    store.put("large", b"L" * 200_000)
except StorageFailed as error:
    assert "no room left" in str(error), error
number = 0
try:
    while True:
        store.put(f"{number}", b"s" * 10_000)
        number += 1
except StorageFailed as error:
    print(number)
assert store.get("large") == b"l" * 100_000
assert all(store.get(f"{one}") == b"s" * 10_000 for one in range(number))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits here")
def test_a_limit_of_the_system_loses_nothing(path: Path) -> None:
    """A process whose files may not grow gets errors, keeps what it put, and the next one reads all of it."""
    run = subprocess.run([sys.executable, "-c", FILLING, path], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    with StoreFile(path) as opened:
        store = opened.namespace("kettle")
        assert int(run.stdout) > 0
        assert sorted(store.keys()) == sorted(["large", *map(str, range(int(run.stdout)))])
        assert opened.verify() == ()
        assert len(files(path)) == 1


def test_a_full_disk_can_be_emptied(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A delete that finds the disk full uses the room that was kept for it, and keeps room again."""
    reserve = path.with_name("store.reserve")
    with StoreFile(path) as opened:
        store = opened.namespace("kettle")
        store.put("tea", LARGE)
        assert reserve.stat().st_size == 1 << 20
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        given_up: list[bool] = []
        monkeypatch.setattr(Reserve, "make", lambda self: given_up.append(not reserve.exists()))
        failing(opened, error, committed=False)
        store.delete("tea")
        assert (given_up, store.get("tea"), files(path)) == ([True], None, [])
        monkeypatch.undo()
        store.delete("tea")
        assert reserve.stat().st_size == 1 << 20


@pytest.mark.parametrize("call", ["open", "write"])
def test_a_reserve_for_which_there_is_no_room_is_done_without(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Neither a failing nor a short write leaves a part of it, and both leave the caller alone."""
    reserve = Reserve(str(path), 1000)
    real: Callable[..., int] = os.write

    def fail(descriptor: Any, *arguments: Any) -> int:
        if call == "open":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, b"short")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        reserve.make()
    assert not path.exists()
    reserve.make()
    assert path.read_bytes() == bytes(1000)


class Connection:
    """A connection that fails once, at or behind a commit."""

    def __init__(self, real: sqlite3.Connection, error: BaseException, *, committed: bool) -> None:
        self._real = real
        self._error: BaseException | None = error
        self._committed = committed

    def execute(self, statement: str, *parameters: Any) -> sqlite3.Cursor:
        error = self._error
        if statement != "COMMIT" or error is None:
            return self._real.execute(statement, *parameters)
        self._error = None
        if self._committed:
            self._real.execute(statement)
        raise error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def failing(opened: StoreFile, error: BaseException, *, committed: bool) -> None:
    index = opened._index
    assert index is not None
    index._connection = Connection(index._connection, error, committed=committed)  # type: ignore[assignment]


def test_the_file_of_a_commit_in_doubt_is_kept_until_the_next_opening(path: Path) -> None:
    """If the disk breaks at a commit, it may be there after a crash or not: both values are kept until one is known."""
    with StoreFile(path) as opened:
        store = opened.namespace("kettle")
        store.put("tea", LARGE)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        failing(opened, error, committed=False)
        with pytest.raises(StorageFailed, match="disk I/O error"):
            store.put("tea", LARGE * 2)
        assert store.get("tea") == LARGE
        assert len(files(path)) == 2
    with StoreFile(path) as opened:
        assert opened.statistics().swept == 1
        assert opened.namespace("kettle").get("tea") == LARGE


def test_an_interrupt_behind_a_commit_loses_no_value(opened: StoreFile, store: NamespaceStore) -> None:
    """Ctrl-C between the commit and the return leaves the new value, which the index refers to already."""
    store.put("tea", b"old")
    failing(opened, KeyboardInterrupt(), committed=True)
    with pytest.raises(KeyboardInterrupt):
        store.put("tea", LARGE)
    assert (store.get("tea"), opened.verify()) == (LARGE, ())


def test_an_interrupt_before_a_commit_leaves_no_file(opened: StoreFile, store: NamespaceStore, path: Path) -> None:
    """Ctrl-C before the commit leaves the old value and no file."""
    store.put("tea", b"old")
    failing(opened, KeyboardInterrupt(), committed=False)
    with pytest.raises(KeyboardInterrupt):
        store.put("tea", LARGE)
    assert (store.get("tea"), files(path), opened.verify()) == (b"old", [], ())


def test_a_put_within_a_put_is_refused(opened: StoreFile, store: NamespaceStore) -> None:
    """What a signal handler or a finalizer puts in the middle of a put gets an error; the put itself goes on."""
    caught: list[str] = []

    def interrupt(statement: str) -> None:
        if statement.startswith("INSERT INTO entries") and not caught:
            with pytest.raises(StorageFailed) as error:
                store.put("inner", b"")
            caught.append(error.value.message)

    connection = opened._index._connection  # type: ignore[union-attr]
    connection.set_trace_callback(interrupt)
    store.put("outer", b"1")
    connection.set_trace_callback(None)
    assert caught == [f"{opened.path}: a put or a delete runs in this thread already"]
    assert (store.get("outer"), store.get("inner")) == (b"1", None)


# -- opening -----------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A path with a mistake in it makes no empty store somewhere else."""
    for path in (tmp_path / "none" / "store", tmp_path / "none" / "deeper" / "store"):
        with pytest.raises(ConfigurationError, match=r"the folder .*none.* is not there"):
            StoreFile(path)
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    """The error says that it is no file."""
    with pytest.raises(ConfigurationError, match="is no file"):
        StoreFile(tmp_path)


@pytest.mark.parametrize("path", [None, 5, ["store"]])
def test_a_path_of_another_type_is_refused(path: Any) -> None:
    """Only texts and paths are paths; a number is no descriptor to write into."""
    with pytest.raises(TypeError):
        StoreFile(path)


# A user who may do everything, as in a container, gives that up first: nobody may write into the folder then.
READ_ONLY: Final = """
import os, sqlite3, sys, zlib
import weighbridge.leases.store as module
from weighbridge_hookspecs import ConfigurationError
if os.geteuid() == 0:
    os.setuid(65534)
try:
    module.StoreFile(sys.argv[1])
except ConfigurationError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such permissions here")
@pytest.mark.parametrize(
    ("mode", "words"),
    [(None, "cannot be made: "), (0o666, "cannot be opened for writing: "), (0o444, "may not be read and written. ")],
)
def test_a_folder_that_may_not_be_written_is_named(mode: int | None, words: str) -> None:
    """A new store is not made there and an old one is not opened; the error says why."""
    folder = Path(tempfile.mkdtemp())  # not pytest's: nobody else may look into that one
    path = folder / "store"
    try:
        if mode is not None:
            StoreFile(path).close()
            path.chmod(mode)
        folder.chmod(0o555)
        run = subprocess.run([sys.executable, "-c", READ_ONLY, path], capture_output=True, text=True, check=False)
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)
    assert run.stderr == ""
    assert run.stdout.startswith(f"the store {path} {words}")
    assert "Let this user write" in run.stdout


SECOND: Final = """
import sys
from weighbridge.leases.store import StoreFile
from weighbridge_hookspecs import ConfigurationError
try:
    StoreFile(sys.argv[1])
except ConfigurationError as error:
    print("refused")
"""


def test_a_second_opening_in_one_process_is_refused(
    opened: StoreFile, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whatever name, the error says that this process has it, and the file stays locked against others."""
    monkeypatch.setattr(index_module, "_ATTEMPTS", 1)
    (tmp_path / "link").symlink_to(path)
    for name in (path, tmp_path / "link", os.path.relpath(path)):
        with pytest.raises(ConfigurationError, match=r"is in use by (this|another) process"):
            StoreFile(name)
    run = subprocess.run([sys.executable, "-c", SECOND, path], capture_output=True, text=True, check=True)
    assert run.stdout == "refused\n"
    opened.namespace("kettle").put("tea", b"green")
    assert opened.verify() == ()


LIGHT: Final = """
import sys
import weighbridge, weighbridge.host, weighbridge.leases.ledger
print(sorted({"sqlite3", "obstore", "weighbridge.leases.store", "weighbridge.leases.object_store"} & set(sys.modules)))
import weighbridge.leases.store, weighbridge.leases.object_store
print(sorted({"hashlib", "obstore"} & set(sys.modules)))
"""


def test_nobody_pays_for_a_store_without_using_it() -> None:
    """Importing the host brings neither SQLite nor obstore, and the stores bring obstore only with an address."""
    run = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["[]", "[]"]


# -- what closing gives back -------------------------------------------------------------------------------------------


def growth(step: Callable[[], object], rounds: int) -> tuple[int, int, int]:
    """Descriptors, threads and Python bytes that so many rounds leave behind, after a few to warm up."""
    process = psutil.Process()
    for _ in range(5):
        step()
    tracemalloc.start()
    try:
        step()
        gc.collect()
        before = (process.num_fds(), process.num_threads(), tracemalloc.get_traced_memory()[0])
        for _ in range(rounds):
            step()
        gc.collect()
        after = (process.num_fds(), process.num_threads(), tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    return after[0] - before[0], after[1] - before[1], after[2] - before[2]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no descriptors to count here")
def test_two_hundred_openings_leave_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptors, threads, bytes and files are after 200 openings what they were after the first."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # nothing about crashes is claimed here
    monkeypatch.setattr(index_module, "_SETTINGS", ("PRAGMA synchronous=OFF",))

    def step() -> None:
        with StoreFile(path) as opened:
            store = opened.namespace("kettle")
            store.put("tea", LARGE)
            assert store.get("tea") == LARGE
            store.delete("tea")

    descriptors, threads, nbytes = growth(step, 200)
    assert (descriptors, threads) == (0, 0)
    assert nbytes < 200 * 8  # less than one pointer for each
    assert sorted(path.parent.iterdir()) == [path, path.with_name("store.reserve"), path.with_name("store.values")]
    assert files(path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="there are no descriptors to count here")
def test_openings_that_fail_leave_nothing(opened: StoreFile, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a file that is in use nor one that is no database costs a descriptor for each attempt."""
    monkeypatch.setattr(index_module, "_ATTEMPTS", 1)
    other = path.with_name("other")
    other.write_bytes(b"no database" * 999)

    def step() -> None:
        with pytest.raises(ConfigurationError):
            StoreFile(path)
        with pytest.raises(StorageDamaged):
            StoreFile(other)

    descriptors, threads, _ = growth(step, 50)
    assert (descriptors, threads) == (0, 0)


def test_closing_waits_for_a_large_value(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A put that is writing its file when another thread closes the store is acknowledged, and its value is there."""
    opened = StoreFile(path)
    store = opened.namespace("kettle")
    writing, go_on = threading.Event(), threading.Event()
    real = os.fsync

    def wait(descriptor: int) -> None:
        writing.set()
        go_on.wait()
        real(descriptor)

    monkeypatch.setattr(os, "fsync", wait)
    putting = threading.Thread(target=store.put, args=("tea", LARGE))
    closing = threading.Thread(target=opened.close)
    putting.start()
    writing.wait()
    assert store.get("tea") is None  # whoever reads does not wait
    closing.start()
    closing.join(0.05)  # given the chance to be wrong
    assert closing.is_alive()
    go_on.set()
    putting.join()
    closing.join()
    with StoreFile(path) as again:
        assert again.namespace("kettle").get("tea") == LARGE


def test_a_thousand_handles_that_nobody_closed_end_with_the_file(path: Path) -> None:
    """Whoever keeps handles keeps no file, no descriptor and no index: one call to close gives it all back."""
    process = psutil.Process()
    before = len(process.open_files())
    opened = StoreFile(path)
    handles = [opened.namespace(f"{number}") for number in range(1000)]
    listings = [handle.keys() for handle in handles]
    opened.close()
    assert len(process.open_files()) == before
    StoreFile(path).close()
    assert len(handles) == len(listings) == 1000
