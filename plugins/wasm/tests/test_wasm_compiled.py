"""Compiled modules on disk: what is kept, and what is never loaded."""

from __future__ import annotations

import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st
from weighbridge_hookspecs import InvalidModule

from weighbridge_wasm import compiled
from weighbridge_wasm.compiled import CompiledCache, cache_key, default_folder
from weighbridge_wasm.engine import Engine

LOG = logging.getLogger("weighbridge.plugins.wasm")
ADDS = bytes(
    wasmtime.wat2wasm(
        '(module (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))'
    )
)


SOURCES = st.tuples(st.binary(max_size=9), st.text(st.characters(codec="utf-8"), max_size=9))


class Upper:
    """Compiles by making letters large, and runs only what it compiled itself."""

    def __init__(self, fingerprint: str = "1") -> None:
        self.fingerprint = fingerprint
        self.compiled = 0
        self.loaded = 0

    def compile(self, wasm: bytes) -> str:
        if wasm == b"broken":
            raise InvalidModule("no module", step="compile")
        self.compiled += 1
        return wasm.decode().upper()

    def serialize(self, module: str) -> bytes:
        return module.encode()

    def deserialize_file(self, path: str) -> str:
        content = Path(path).read_bytes()
        assert content.isupper(), "something else was loaded than what was compiled"
        self.loaded += 1
        return content.decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "compiled"


def cache_in(folder: Path, max_bytes: int = 1000) -> CompiledCache:
    return CompiledCache(folder, max_bytes=max_bytes, log=LOG)


def filled(folder: Path, *modules: bytes) -> list[Path]:
    """The files of modules, in the order in which they were last used."""
    cache = cache_in(folder)
    found: list[Path] = []
    for age, module in enumerate(reversed(modules)):
        before = set(folder.iterdir()) if folder.exists() else set()
        cache.module(module, Upper())
        (new,) = set(folder.iterdir()) - before
        os.utime(new, (time.time() - 60 * age,) * 2)
        found.insert(0, new)
    return found


def call(engine: Engine, module: wasmtime.Module) -> object:
    with wasmtime.Store(engine.native) as store:
        store.set_epoch_deadline(1_000_000)
        store.set_fuel(1_000_000)
        add = wasmtime.Instance(store, module, []).exports(store)["add"]
        assert isinstance(add, wasmtime.Func)
        return add(store, 40, 2)


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_second_start_loads_what_the_first_compiled(folder: Path) -> None:
    """Another cache on the same folder finds it, and does not compile."""
    first, second = Upper(), Upper()
    assert cache_in(folder).module(b"abc", first) == "ABC"
    cache = cache_in(folder)
    assert cache.module(b"abc", second) == "ABC"
    assert (first.compiled, first.loaded, second.compiled, second.loaded) == (1, 0, 0, 1)
    found = cache.statistics()
    assert (found.hits, found.misses, found.stored, found.files, found.bytes) == (1, 0, 0, 1, 3)
    assert (found.refused, found.evicted, found.failures, found.unusable) == (0, 0, 0, None)


def test_real_module_is_loaded_and_runs(folder: Path) -> None:
    """A module of wasmtime gives the same result when it comes from the disk, also after its file is gone."""
    for hits in (0, 1):
        with Engine() as engine:
            cache = CompiledCache(folder, log=LOG)
            module = cache.module(ADDS, engine)
            assert cache.statistics().hits == hits
            for path in folder.iterdir() if hits else ():
                path.unlink()
            assert call(engine, module) == 42
            module.close()


def test_other_configuration_is_another_module(folder: Path) -> None:
    """Code that was compiled for another engine is not even looked at."""
    with Engine() as engine, Engine(copy_on_write=False) as other:
        cache = CompiledCache(folder, log=LOG)
        for each in (engine, other, engine, other):
            module = cache.module(ADDS, each)
            assert call(each, module) == 42
            module.close()
        found = cache.statistics()
    assert (found.hits, found.misses, found.refused, found.files) == (2, 2, 0, 2)


@given(SOURCES, SOURCES)
def test_key_is_of_module_and_configuration(one: tuple[bytes, str], other: tuple[bytes, str]) -> None:
    """Two keys are the same if both are; nothing of the one can be taken for a piece of the other."""
    assert (cache_key(*one) == cache_key(*other)) is (one == other)


def test_error_of_the_compiler_is_passed_on(folder: Path) -> None:
    """And nothing is kept of it."""
    cache = cache_in(folder)
    with pytest.raises(InvalidModule, match="no module"):
        cache.module(b"broken", Upper())
    assert cache.statistics().files == 0


def test_nothing_is_kept_without_room(folder: Path) -> None:
    """With 0 bytes the folder is not even made, and a module larger than all of the room is not written."""
    cache = cache_in(folder, 0)
    assert [cache.module(b"abc", Upper()) for _ in range(2)] == ["ABC", "ABC"]
    assert not folder.exists()
    assert cache.statistics().misses == 2
    small = cache_in(folder, 2)
    assert small.module(b"abc", Upper()) == "ABC"
    assert (small.statistics().files, small.statistics().stored) == (0, 0)


def test_what_was_not_used_for_longest_goes(folder: Path) -> None:
    """When there is no room for another one; using one makes it the newest."""
    oldest, older, newest = filled(folder, b"a" * 300, b"b" * 300, b"c" * 300)
    cache = cache_in(folder)
    assert cache.module(b"a" * 300, Upper()) == "A" * 300
    assert cache.module(b"d" * 300, Upper()) == "D" * 300
    assert (oldest.exists(), older.exists(), newest.exists()) == (True, False, True)
    found = cache.statistics()
    assert (found.evicted, found.files, found.bytes) == (1, 3, 900)


def test_number_of_files_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small modules have to make room as large ones do."""
    monkeypatch.setattr(compiled, "MOST_FILES", 2)
    first, second = filled(folder, b"a", b"b")
    cache_in(folder).module(b"c", Upper())
    assert (first.exists(), second.exists(), len(list(folder.iterdir()))) == (False, True, 2)


def test_abandoned_files_are_swept(folder: Path) -> None:
    """What a killed process left goes after an hour; what is being written, and what is not ours, stays."""
    filled(folder, b"a")
    abandoned, writing, strange = (folder / name for name in (".1.tmp", ".2.tmp", "notes.txt"))
    for path in (abandoned, writing, strange):
        path.write_bytes(b"x")
    for path in (abandoned, strange):
        os.utime(path, (time.time() - 7200,) * 2)
    cache_in(folder, 2).module(b"b", Upper())
    assert [path.exists() for path in (abandoned, writing, strange)] == [False, True, True]


def test_threads_share_a_cache(folder: Path) -> None:
    """Every one of them gets its module, and the counters add up."""
    cache = cache_in(folder, 10_000)
    modules = [bytes((ord("a") + number % 7,)) * 10 for number in range(140)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda module: cache.module(module, Upper()), modules))
    assert results == [module.decode().upper() for module in modules]
    found = cache.statistics()
    assert (found.hits + found.misses, found.files, found.bytes) == (140, 7, 70)
    assert (found.refused, found.failures, found.stored) == (0, 0, found.misses)


def test_processes_share_a_folder(folder: Path, tmp_path: Path) -> None:
    """Two that begin with nothing at the same time both get a module that runs, and leave whole files."""
    program = """
import logging, sys, wasmtime
from weighbridge_wasm.compiled import CompiledCache
from weighbridge_wasm.engine import Engine
cache = CompiledCache(sys.argv[1], log=logging.getLogger())
with Engine() as engine:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(20):
        wasm = bytes(wasmtime.wat2wasm(f'(module (func (export "f") (result i32) i32.const {number % 10}))'))
        cache.module(wasm, engine).close()
print(cache.statistics().refused + cache.statistics().failures)
"""
    pipe = subprocess.PIPE
    arguments = [sys.executable, "-c", program, str(folder)]
    running = [subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate()[0] for process in running] == ["0\n", "0\n"]
    assert CompiledCache(folder, log=LOG).statistics().files == 10
    assert not list(folder.glob("*.tmp"))


# -- what is never loaded ----------------------------------------------------------------------------------------------


@given(st.data())
def test_damaged_file_is_never_loaded(data: st.DataObject) -> None:
    """Truncated, longer or with other bytes: it is compiled anew, and what is there afterwards is whole."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "compiled"
        (path,) = filled(folder, b"abcdefgh")
        whole = path.read_bytes()
        content = data.draw(
            st.integers(0, len(whole) - 1).map(lambda length: whole[:length])
            | st.binary(min_size=1, max_size=3).map(lambda more: whole + more)
            | st.binary(min_size=len(whole), max_size=len(whole)).filter(lambda other: other != whole)
            | st.integers(0, 8 * len(whole) - 1).map(
                lambda bit: (int.from_bytes(whole, "big") ^ 1 << bit).to_bytes(len(whole), "big")
            )
        )
        path.write_bytes(content)
        compiler = Upper()
        cache = cache_in(folder)
        assert cache.module(b"abcdefgh", compiler) == "ABCDEFGH"
        assert (compiler.compiled, compiler.loaded, cache.statistics().refused) == (1, 0, 1)
        assert path.read_bytes() == whole


def test_name_of_another_key_is_not_enough(folder: Path) -> None:
    """A whole file under the checksum of another one is not loaded."""
    one, other = filled(folder, b"abc", b"xyz")
    content = other.read_bytes()
    one.write_bytes(content)
    assert cache_in(folder).module(b"abc", Upper()) == "ABC"


def test_what_is_verified_is_what_is_loaded(folder: Path) -> None:
    """A file that is put in its place meanwhile is not loaded: wasmtime opens what was read, and not a name."""
    (path,) = filled(folder, b"abc")
    evil = folder.parent / "evil"
    evil.write_bytes(b"EVIL")

    class Swapped(Upper):
        def deserialize_file(self, where: str) -> str:
            os.replace(evil, path)
            return super().deserialize_file(where)

    assert cache_in(folder).module(b"abc", Swapped()) == "ABC"
    assert path.read_bytes() == b"EVIL"
    assert cache_in(folder).module(b"abc", Upper()) == "ABC"


def link(path: Path) -> None:
    elsewhere = path.parent.parent / "elsewhere"
    elsewhere.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(elsewhere)


def let_others_write(path: Path) -> None:
    path.chmod(0o666)


def make_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "text"), [(link, "it is a symbolic link"), (let_others_write, "it has mode 0666: take it from everybody")]
)
def test_file_that_others_could_change_is_not_loaded(
    folder: Path, spoil: Callable[[Path], None], text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is removed and compiled anew; the log says why."""
    (path,) = filled(folder, b"abc")
    spoil(path)
    compiler = Upper()
    assert cache_in(folder).module(b"abc", compiler) == "ABC"
    assert (compiler.compiled, compiler.loaded) == (1, 0)
    assert text in caplog.text
    assert (path.is_symlink(), path.stat().st_mode & 0o777) == (False, 0o600)


def test_folder_in_the_place_of_a_file_is_no_module(folder: Path) -> None:
    """It is compiled anew each time, and nothing is raised."""
    (path,) = filled(folder, b"abc")
    make_a_folder(path)
    compiler = Upper()
    cache = cache_in(folder)
    assert cache.module(b"abc", compiler) == "ABC"
    assert (compiler.loaded, cache.statistics().refused, path.is_dir()) == (0, 1, True)


def test_file_of_another_user_is_not_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its owner is looked at when it is open: the name says nothing."""
    filled(folder, b"abc")
    real = os.fstat

    def of_another(descriptor: int) -> os.stat_result:
        found = list(real(descriptor))
        found[4] = os.geteuid() + 1
        return os.stat_result(found)

    monkeypatch.setattr(os, "fstat", of_another)
    compiler = Upper()
    assert cache_in(folder).module(b"abc", compiler) == "ABC"
    assert (compiler.compiled, compiler.loaded) == (1, 0)
    assert f"it belongs to user {os.geteuid() + 1}, not to {os.geteuid()}" in caplog.text


def test_code_for_another_machine_is_compiled_anew(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """wasmtime refuses what needs a CPU feature that is missing here, as in a home folder that machines share."""
    (path,) = filled(folder, b"abc")

    class Older(Upper):
        def deserialize_file(self, path: str) -> str:
            raise InvalidModule("compiled with the feature avx512f, which is not available", step="compile")

    cache = cache_in(folder)
    assert [cache.module(b"abc", Older()) for _ in range(2)] == ["ABC", "ABC"]
    assert (cache.statistics().refused, cache.statistics().stored, path.exists()) == (2, 2, True)
    assert caplog.text.count("avx512f") == 1


def test_file_that_goes_meanwhile_is_a_miss(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may make room between the look and the opening."""
    (path,) = filled(folder, b"abc")
    name = path.name
    path.unlink()
    monkeypatch.setattr(os, "listdir", lambda where: [name])
    cache = cache_in(folder)
    assert cache.module(b"abc", Upper()) == "ABC"
    found = cache.statistics()
    assert (found.misses, found.refused, found.failures) == (1, 0, 0)


# -- folders -----------------------------------------------------------------------------------------------------------


def test_folder_and_files_are_private(folder: Path) -> None:
    """Whatever the umask: nobody else reads or writes them."""
    before = os.umask(0)
    try:
        (path,) = filled(folder, b"abc")
    finally:
        os.umask(before)
    assert (folder.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)


def open_to_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.chmod(0o755)


def linked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = folder.with_name("real")
    folder.rename(real)
    folder.symlink_to(real)


def of_another_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (open_to_all, "it has mode 0755: take it from everybody else"),
        (linked, "it is no folder"),
        (of_another_user, "it belongs to user"),
    ],
)
def test_folder_that_is_not_private_is_not_used(
    folder: Path,
    spoil: Callable[[Path, pytest.MonkeyPatch], None],
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is looked at each time: nothing is loaded from it and nothing written; that is logged once, and counted."""
    cache = cache_in(folder)
    cache.module(b"abc", Upper())
    spoil(folder, monkeypatch)
    compiler = Upper()
    for module in (b"abc", b"xyz", b"abc"):
        assert cache.module(module, compiler) == module.decode().upper()
    assert (compiler.compiled, compiler.loaded, len(list(folder.iterdir()))) == (3, 0, 1)
    assert caplog.text.count("compiled modules are not kept in") == 1
    assert text in caplog.text
    found = cache.statistics()
    assert (found.misses, found.failures, found.files, found.bytes) == (4, 6, None, None)
    assert found.unusable is not None
    assert text in found.unusable


def test_folder_that_cannot_be_made_is_done_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file in its way, say: modules are compiled, and the log says so once."""
    (tmp_path / "file").write_bytes(b"")
    cache = cache_in(tmp_path / "file" / "compiled")
    assert [cache.module(b"abc", Upper()) for _ in range(3)] == ["ABC"] * 3
    assert caplog.text.count("cannot be read in") == 1
    assert cache.statistics().unusable is not None


def test_full_disk_is_done_without(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A write that stops in the middle leaves no file, the module is compiled, and the log says so once."""
    (kept,) = filled(folder, b"abc")
    cache = cache_in(folder)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        results = [cache.module(b"x" * 200, Upper()) for _ in range(2)]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert results == ["X" * 200] * 2
    assert list(folder.iterdir()) == [kept]
    assert caplog.text.count("cannot be written in") == 1
    assert (cache.statistics().failures, cache.statistics().stored) == (2, 0)
    assert cache.module(b"x" * 200, Upper()) == "X" * 200
    assert cache.statistics().stored == 1


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({"WEIGHBRIDGE_CACHE": "/srv/cache", "XDG_CACHE_HOME": "/xdg"}, "/srv/cache/compiled-wasm"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/weighbridge/compiled-wasm"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/somebody/.cache/weighbridge/compiled-wasm"),
        ({"XDG_CACHE_HOME": ""}, "/home/somebody/.cache/weighbridge/compiled-wasm"),
        ({}, "/home/somebody/.cache/weighbridge/compiled-wasm"),
    ],
)
def test_default_folder_is_that_of_the_host(
    variables: dict[str, str], wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`WEIGHBRIDGE_CACHE`, or where the desktop's specification puts caches; a relative path is ignored there."""
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("WEIGHBRIDGE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "/home/somebody"} | variables).items():
        monkeypatch.setenv(name, value)
    assert default_folder() == Path(wanted)
    assert CompiledCache(log=LOG).folder == Path(wanted)


@pytest.mark.parametrize(
    ("system", "wanted"),
    [("darwin", "/home/somebody/Library/Caches/weighbridge"), ("win32", "/home/somebody/Local/weighbridge")],
)
def test_default_folder_of_other_systems(system: str, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where their users' caches are."""
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.delenv("WEIGHBRIDGE_CACHE", raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("LOCALAPPDATA", "/home/somebody/Local")
    assert default_folder() == Path(wanted) / "compiled-wasm"
