"""What a module sees of the world: nothing, unless it was granted."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
import textwrap
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st
from weighbridge_hookspecs import ConfigurationError, DeadlineExceeded

from weighbridge_wasm.clocks import EFAULT, EINVAL, ENOTSUP, MONOTONIC, MOST_SUBSCRIPTIONS, REALTIME, SUCCESS, Clocks
from weighbridge_wasm.wasi import ENOTCAPABLE, MODULE, Folder, Shadow, WasiGrants, imports_wasi

BADF: Final = 8
NOENT: Final = 44
NOTDIR: Final = 54
PERM: Final = 63

# every function of preview 1, its parameters as i for i32 and I for i64; all but proc_exit give an errno
FUNCTIONS: Final = {
    "args_get": "ii",
    "args_sizes_get": "ii",
    "clock_res_get": "ii",
    "clock_time_get": "iIi",
    "environ_get": "ii",
    "environ_sizes_get": "ii",
    "fd_advise": "iIIi",
    "fd_allocate": "iII",
    "fd_close": "i",
    "fd_datasync": "i",
    "fd_fdstat_get": "ii",
    "fd_fdstat_set_flags": "ii",
    "fd_fdstat_set_rights": "iII",
    "fd_filestat_get": "ii",
    "fd_filestat_set_size": "iI",
    "fd_filestat_set_times": "iIIi",
    "fd_pread": "iiiIi",
    "fd_prestat_dir_name": "iii",
    "fd_prestat_get": "ii",
    "fd_pwrite": "iiiIi",
    "fd_read": "iiii",
    "fd_readdir": "iiiIi",
    "fd_renumber": "ii",
    "fd_seek": "iIii",
    "fd_sync": "i",
    "fd_tell": "ii",
    "fd_write": "iiii",
    "path_create_directory": "iii",
    "path_filestat_get": "iiiii",
    "path_filestat_set_times": "iiiiIIi",
    "path_link": "iiiiiii",
    "path_open": "iiiiiIIii",
    "path_readlink": "iiiiii",
    "path_remove_directory": "iii",
    "path_rename": "iiiiii",
    "path_symlink": "iiiii",
    "path_unlink_file": "iii",
    "poll_oneoff": "iiii",
    "proc_exit": "i",
    "proc_raise": "i",
    "random_get": "ii",
    "sched_yield": "",
    "sock_accept": "iii",
    "sock_recv": "iiiiii",
    "sock_send": "iiiii",
    "sock_shutdown": "ii",
}
SUBSCRIPTION: Final = struct.Struct("<QB7xI4xQQH6x")
EVENT: Final = struct.Struct("<QHB5xQH6x")


@attrs.frozen
class Import:
    name: str
    module: str = MODULE


def passing_on(names: Mapping[str, str]) -> str:
    """A module that exports each function as it was imported."""
    types = {"i": "i32", "I": "i64"}
    lines = []
    for name, letters in names.items():
        params, result = " ".join(types[letter] for letter in letters), "" if name == "proc_exit" else "(result i32)"
        lines.append(f'(import "{MODULE}" "{name}" (func ${name} (param {params}) {result}))')
    lines.append('(memory (export "memory") 1)')
    for name, letters in names.items():
        params, result = " ".join(types[letter] for letter in letters), "" if name == "proc_exit" else "(result i32)"
        gets = " ".join(f"(local.get {index})" for index in range(len(letters)))
        lines.append(f'(func (export "{name}") (param {params}) {result} (call ${name} {gets}))')
    return f"(module {' '.join(lines)})"


class Guest:
    """An instance that calls WASI as it is told, and what a host function sees of it."""

    def __init__(self, engine: wasmtime.Engine, module: wasmtime.Module, grants: WasiGrants) -> None:
        linker = wasmtime.Linker(engine)
        grants.define(linker)
        for name, shadow in grants.shadows(map(Import, FUNCTIONS)).items():
            self._link(linker, name, shadow)
        self.grants, self.store = grants, wasmtime.Store(engine)
        self.store.set_epoch_deadline(1_000_000)
        grants.configure(self.store)
        self.exports = linker.instantiate(self.store, module).exports(self.store)
        self.memory: Any = self.exports["memory"]
        self.left: float | None = None

    def _link(self, linker: wasmtime.Linker, name: str, shadow: Shadow) -> None:
        kinds = {"i": wasmtime.ValType.i32, "I": wasmtime.ValType.i64}
        plain = name.removeprefix(f"{MODULE}.")
        form = wasmtime.FuncType([kinds[letter]() for letter in FUNCTIONS[plain]], [wasmtime.ValType.i32()])

        def function(*arguments: Any) -> int:
            return shadow(self, *arguments) if shadow.wants_memory else shadow(*arguments)

        linker.define_func(MODULE, plain, form, function)

    @property
    def memory_bytes(self) -> int:
        return int(self.memory.data_len(self.store))

    def read(self, address: int, nbytes: int) -> bytes:
        return bytes(self.memory.read(self.store, address, address + nbytes))

    def write(self, address: int, data: bytes) -> None:
        self.memory.write(self.store, data, address)

    def remaining_seconds(self) -> float | None:
        return self.left

    def number(self, address: int, nbytes: int = 4) -> int:
        return int.from_bytes(self.read(address, nbytes), "little")

    def call(self, name: str, *arguments: int) -> int:
        function: Any = self.exports[name]
        found = function(self.store, *arguments)
        assert isinstance(found, int)
        return found

    def path(self, text: str, address: int = 0) -> tuple[int, int]:
        """Write a path into the memory; its address and its length."""
        content = text.encode()
        self.write(address, content)
        return address, len(content)

    def open(self, text: str, *, create: bool = False, write: bool = False, folder: int = 3) -> int:
        """Open a path with links followed; an errno."""
        rights = 64 if write or create else 2  # fd_write, fd_read
        return self.call("path_open", folder, 1, *self.path(text), int(create), rights, 0, 0, 4096)

    def written(self, text: bytes, fd: int = 1) -> int:
        """Write to a descriptor; an errno."""
        self.write(256, text)
        self.write(128, struct.pack("<II", 256, len(text)))
        return self.call("fd_write", fd, 128, 1, 64)

    def taken(self, fd: int, nbytes: int = 100) -> bytes:
        """What can be read from a descriptor at once."""
        self.write(128, struct.pack("<II", 256, nbytes))
        assert self.call("fd_read", fd, 128, 1, 64) == SUCCESS
        return self.read(256, self.number(64))


@pytest.fixture(scope="module")
def engine() -> wasmtime.Engine:
    config = wasmtime.Config()
    config.epoch_interruption = True
    return wasmtime.Engine(config)


@pytest.fixture(scope="module")
def module(engine: wasmtime.Engine) -> wasmtime.Module:
    return wasmtime.Module(engine, bytes(wasmtime.wat2wasm(passing_on(FUNCTIONS))))


@pytest.fixture
def make(engine: wasmtime.Engine, module: wasmtime.Module) -> Any:
    return lambda **granted: Guest(engine, module, WasiGrants(**granted))


# --- nothing ----------------------------------------------------------------------------------------------------------


# what each of them answers to zeros when nothing is granted: there are no arguments and no variables, descriptors 0 to
# 2 exist and are empty or go nowhere, and the rest is refused
NOTHING: Final = {
    **dict.fromkeys(FUNCTIONS, BADF),
    **dict.fromkeys(("args_get", "args_sizes_get", "environ_get", "environ_sizes_get", "sched_yield"), SUCCESS),
    **dict.fromkeys(("fd_close", "fd_fdstat_get", "fd_filestat_get", "fd_read", "fd_renumber"), SUCCESS),
    **dict.fromkeys(("clock_res_get", "clock_time_get", "poll_oneoff", "random_get"), ENOTCAPABLE),
    **dict.fromkeys(("sock_accept", "sock_recv", "sock_send", "sock_shutdown"), 57),  # notsock
    **dict.fromkeys(("fd_pread", "fd_seek", "fd_tell"), 70),  # spipe: a stream has no positions
    "fd_prestat_dir_name": NOTDIR,
    "proc_raise": ENOTSUP,
}


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"proc_exit"}))
def test_each_function_answers_by_the_specification_if_nothing_is_granted(make: Any, name: str) -> None:
    """A module that was given nothing gets an errno from every function, and no surprise."""
    assert make().call(name, *([0] * len(FUNCTIONS[name]))) == NOTHING[name]


def test_all_functions_of_preview_1_are_there() -> None:
    """The specification has forty-six, and the engine knows all of them and no more."""
    assert len(FUNCTIONS) == 46


def test_the_end_of_a_command_is_its_exit_code(make: Any) -> None:
    """A module ends itself by an error that carries its code."""
    with pytest.raises(wasmtime.ExitTrap) as caught:
        make().call("proc_exit", 17)
    assert caught.value.code == 17


def test_there_are_no_arguments_and_no_environment(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the command line nor a variable of this process is seen."""
    monkeypatch.setenv("PLAIN_SECRET", "x" * 123)
    guest = make()
    for name in ("args_sizes_get", "environ_sizes_get"):
        guest.write(0, b"\xff" * 8)
        assert guest.call(name, 0, 4) == SUCCESS
        assert guest.read(0, 8) == bytes(8)


@pytest.mark.parametrize("name", ["clock_time_get", "random_get"])
def test_what_is_refused_leaves_the_memory_as_it_is(make: Any, name: str) -> None:
    """No zeros are passed off as the time or as random bytes."""
    guest = make()
    guest.write(0, b"\xa5" * 64)
    assert guest.call(name, *([8] * len(FUNCTIONS[name]))) == ENOTCAPABLE
    assert guest.read(0, 64) == b"\xa5" * 64


def test_output_goes_nowhere(make: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """A module may print, so that code for people runs, and nobody sees it."""
    guest = make()
    assert [guest.written(b"heard?\n", fd) for fd in (1, 2)] == [SUCCESS, SUCCESS]
    assert guest.number(64) == 7
    assert capfd.readouterr() == ("", "")


def test_input_is_at_its_end(make: Any) -> None:
    """Reading gives nothing at once, and does not wait for a terminal."""
    assert make().taken(0) == b""


@pytest.mark.parametrize("path", ["/etc/passwd", "../etc/passwd", ".", "/proc/self/environ"])
@pytest.mark.parametrize("folder", [0, 1, 2, 3, 4])
def test_no_path_leads_anywhere(make: Any, path: str, folder: int) -> None:
    """Without a folder there is nothing to open a path from."""
    assert make().open(path, folder=folder) in (BADF, NOTDIR)


# --- what is granted --------------------------------------------------------------------------------------------------


def strings(guest: Guest, sizes: str, get: str) -> list[str]:
    """Arguments or variables as a module reads them."""
    assert guest.call(sizes, 0, 4) == SUCCESS
    count, nbytes = guest.number(0), guest.number(4)
    assert guest.call(get, 64, 1024) == SUCCESS
    return guest.read(1024, nbytes).decode().split("\0")[:count]


def test_arguments_and_environment_are_those_that_were_granted(make: Any) -> None:
    """A module reads what it was given, in UTF-8, and nothing else."""
    guest = make(arguments=("tool", "grün", ""), environment={"A": "1", "B": ""})
    assert strings(guest, "args_sizes_get", "args_get") == ["tool", "grün", ""]
    assert strings(guest, "environ_sizes_get", "environ_get") == ["A=1", "B="]


def test_random_bytes_are_random(make: Any) -> None:
    """Two draws of 32 bytes differ."""
    guest = make(random=True)
    assert guest.call("random_get", 0, 64) == SUCCESS
    assert guest.read(0, 32) != guest.read(32, 32)


def test_streams_are_files_or_those_of_this_process(make: Any, tmp_path: Path) -> None:
    """Output lands in a file, and input is read from one."""
    (tmp_path / "in").write_bytes(b"given")
    guest = make(stdin=str(tmp_path / "in"), stdout=str(tmp_path / "out"), stderr=str(tmp_path / "err"))
    assert guest.taken(0) == b"given"
    assert guest.written(b"one ") == guest.written(b"two") == guest.written(b"three", 2) == SUCCESS
    assert (tmp_path / "out").read_bytes() == b"one two"
    assert (tmp_path / "err").read_bytes() == b"three"


def test_inherited_output_is_that_of_this_process(make: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """What a module prints then is printed here."""
    guest = make(stdout="inherit", stderr="inherit", stdin="inherit")
    guest.written(b"out")
    guest.written(b"err", 2)
    assert capfd.readouterr() == ("out", "err")


def test_each_use_of_an_instance_has_a_context_of_its_own(make: Any, tmp_path: Path) -> None:
    """What the last use closed, renumbered or read is as it was at the beginning, and no descriptor is left."""
    (tmp_path / "file").write_bytes(b"inside")
    folder = Folder(guest="/", host=str(tmp_path))
    guest = make(folders=(folder,), stdin=str(tmp_path / "file"))

    def use() -> None:
        assert guest.taken(0) == b"inside"
        assert guest.open("file") == SUCCESS
        assert guest.number(4096) == 4
        assert guest.call("fd_close", 1) == guest.call("fd_renumber", 4, 3) == SUCCESS
        assert guest.written(b"x") == BADF
        assert guest.open("file") == NOTDIR

    use()
    guest.grants.configure(guest.store)
    before = descriptors()
    for _ in range(50):
        use()
        guest.grants.configure(guest.store)
    assert descriptors() == before


def descriptors() -> int | None:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return None


def test_a_store_without_a_context_would_end_the_process() -> None:
    """The engine aborts, which is why each use is configured; this says so when it no longer does."""
    code = f"""
        import wasmtime
        engine = wasmtime.Engine()
        linker, store = wasmtime.Linker(engine), wasmtime.Store(engine)
        linker.define_wasi()
        module = wasmtime.Module(engine, wasmtime.wat2wasm({passing_on({"sched_yield": ""})!r}))
        linker.instantiate(store, module).exports(store)["sched_yield"](store)
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, check=False)
    assert ended.returncode != 0
    assert b"wasi context must be populated" in ended.stderr


# --- folders ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with a secret beside another, `inside`, with all kinds of ways out of it."""
    (tmp_path / "secret").write_text("secret")
    inside = tmp_path / "inside"
    (inside / "sub").mkdir(parents=True)
    (inside / "file").write_text("file")
    links = {
        "near": "file",
        "relative": "../secret",
        "absolute": str(tmp_path / "secret"),
        "up": "..",
        "root": "/",
        "twice": "relative",
        "sub/far": "../../secret",
    }
    for name, target in links.items():
        (inside / name).symlink_to(target)
    return tmp_path


WAYS_OUT: Final = [
    "../secret",
    "sub/../../secret",
    "./../inside/../secret",
    "relative",
    "absolute",
    "twice",
    "sub/far",
    "up/secret",
    "up/inside/../secret",
    "root/etc/passwd",
    "/etc/passwd",
    "//etc/passwd",
    "sub/../..",
    "..",
    "/",
    "/proc/self/root/etc/passwd",
]


@pytest.mark.parametrize("writable", [False, True])
def test_what_is_in_the_folder_can_be_read(make: Any, outside: Path, writable: bool) -> None:
    """Paths and links that stay inside lead to their file."""
    guest = make(folders=[{"guest": "/data", "host": str(outside / "inside"), "writable": writable}])
    for path in ("file", "./file", "sub/../file", "near"):
        assert guest.open(path) == SUCCESS
        assert guest.taken(guest.number(4096)) == b"file"
    assert guest.open("missing") == NOENT


@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.parametrize("path", WAYS_OUT)
def test_no_way_leads_out_of_the_folder(make: Any, outside: Path, path: str, writable: bool) -> None:
    """Neither dots nor links nor absolute paths get a module out, to read, to write or to look."""
    guest = make(folders=[{"guest": "/data", "host": str(outside / "inside"), "writable": writable}])
    assert guest.open(path) == PERM
    assert guest.open(path, write=True) == PERM
    assert guest.open(path, create=True) == PERM
    address, length = guest.path(path)
    assert guest.call("path_filestat_get", 3, 1, address, length, 512) == PERM
    assert sorted(os.listdir(outside)) == ["inside", "secret"]
    assert (outside / "secret").read_text() == "secret"


@pytest.mark.parametrize("name", ["up/new", "../new", str(Path("/") / "tmp" / "new")])
def test_nothing_is_made_or_moved_outside(make: Any, outside: Path, name: str) -> None:
    """A writable folder is writable inside, and nothing is linked into it or moved out of it."""
    guest = make(folders=[Folder(guest="/", host=str(outside / "inside"), writable=True)])
    target = guest.path(name, 600)
    assert guest.call("path_create_directory", 3, *target) == PERM
    assert guest.call("path_rename", 3, *guest.path("file"), 3, *target) == PERM
    assert guest.call("path_link", 3, 0, *guest.path("../secret"), 3, *guest.path("mine", 700)) == PERM
    assert guest.call("path_symlink", *guest.path(str(outside / "secret")), 3, *guest.path("mine", 700)) == PERM
    assert guest.call("path_unlink_file", 3, *guest.path("../secret")) == PERM
    assert sorted(os.listdir(outside)) == ["inside", "secret"]
    assert "mine" not in os.listdir(outside / "inside")


def test_a_link_that_the_module_made_leads_nowhere(make: Any, outside: Path) -> None:
    """A relative link out of the folder can be made, and not followed."""
    guest = make(folders=[Folder(guest="/", host=str(outside / "inside"), writable=True)])
    assert guest.call("path_symlink", *guest.path("../secret"), 3, *guest.path("mine", 700)) == SUCCESS
    assert guest.open("mine") == guest.open("mine", write=True) == PERM


def test_a_folder_is_read_only_unless_it_is_said(make: Any, outside: Path) -> None:
    """Nothing in it can be made, changed, removed or moved."""
    inside = outside / "inside"
    guest = make(folders=[Folder(guest="/", host=str(inside))])
    before = sorted(os.listdir(inside))
    file, new = guest.path("file"), guest.path("new", 600)
    assert guest.open("file", write=True) == guest.open("new", create=True) == PERM
    assert guest.call("path_unlink_file", 3, *file) == PERM
    assert guest.call("path_create_directory", 3, *new) == PERM
    assert guest.call("path_rename", 3, *file, 3, *new) == PERM
    assert guest.call("path_symlink", *file, 3, *new) == PERM
    assert guest.call("path_filestat_set_times", 3, 0, *file, 0, 0, 4) == PERM
    assert guest.open("file") == SUCCESS
    opened = guest.number(4096)
    assert guest.call("fd_filestat_set_size", opened, 0) != SUCCESS
    assert guest.written(b"x", opened) == BADF
    assert sorted(os.listdir(inside)) == before
    assert (inside / "file").read_text() == "file"


def test_a_writable_folder_is_written_to(make: Any, outside: Path) -> None:
    """What the module writes is in the file."""
    guest = make(folders=[Folder(guest="/", host=str(outside / "inside"), writable=True)])
    assert guest.open("new", create=True) == SUCCESS
    assert guest.written(b"here", guest.number(4096)) == SUCCESS
    assert (outside / "inside" / "new").read_bytes() == b"here"


def test_folders_have_the_names_that_they_were_given(make: Any, tmp_path: Path) -> None:
    """A module finds them in their order, from descriptor 3 on."""
    guest = make(folders=[{"guest": name, "host": str(tmp_path)} for name in ("/a", "/beta")])
    names = []
    for fd in (3, 4):
        assert guest.call("fd_prestat_get", fd, 0) == SUCCESS
        assert guest.call("fd_prestat_dir_name", fd, 64, guest.number(4)) == SUCCESS
        names.append(guest.read(64, guest.number(4)))
    assert names == [b"/a", b"/beta"]
    assert guest.call("fd_prestat_get", 5, 0) == BADF


@pytest.mark.parametrize(("make_it", "had"), [(None, "nothing"), ("file", "something else")])
def test_a_folder_that_is_none_is_named(engine: wasmtime.Engine, tmp_path: Path, make_it: str | None, had: str) -> None:
    """The error says which folder it is, and what is there instead."""
    path = tmp_path / "there"
    if make_it:
        path.write_text("")
    with pytest.raises(ConfigurationError, match=str(path)) as caught:
        WasiGrants(folders=[Folder(guest="/", host=str(path))]).configure(wasmtime.Store(engine))
    assert caught.value.had == had


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_a_file_that_cannot_be_opened_is_named(engine: wasmtime.Engine, tmp_path: Path, stream: str) -> None:
    """The error says which stream and which file."""
    path = str(tmp_path / "missing" / "file")
    with pytest.raises(ConfigurationError, match=f"wasi: {stream} is .*missing"):
        WasiGrants.read({stream: path}).configure(wasmtime.Store(engine))


# --- clocks -----------------------------------------------------------------------------------------------------------


class Hours:
    """Clocks that stand still but for who sleeps."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.now = 1_000_000_000
        self.clocks = Clocks(realtime_ns=lambda: self.now + 7, monotonic_ns=lambda: self.now, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += round(seconds * 1e9)


@attrs.define
class Caller:
    """Memory, and a deadline."""

    content: bytearray = attrs.field(factory=lambda: bytearray(4096))
    left: float | None = None

    @property
    def memory_bytes(self) -> int:
        return len(self.content)

    def read(self, address: int, nbytes: int) -> bytes:
        return bytes(self.content[address : address + nbytes])

    def write(self, address: int, data: bytes) -> None:
        self.content[address : address + len(data)] = data

    def remaining_seconds(self) -> float | None:
        return self.left


def sleeping(
    caller: Caller, hours: Hours, *wanted: tuple[int, int, int, int, int]
) -> tuple[int, list[tuple[int, ...]]]:
    """Wait for (kind, clock, timeout, precision, flags); the errno and the events (user, errno, kind, bytes, flags)."""
    for index, subscription in enumerate(wanted):
        caller.write(index * 48, SUBSCRIPTION.pack(100 + index, *subscription))
    errno = hours.clocks.poll_oneoff(caller, 0, 1024, len(wanted), 2048)
    count = int.from_bytes(caller.read(2048, 4), "little")
    return errno, list(EVENT.iter_unpack(caller.read(1024, count * 32)))


def test_the_time_is_that_of_the_machine(make: Any) -> None:
    """A module with a clock reads time that goes on, and from which nobody learns when the machine was started."""
    guest = make(clock=True)
    times = []
    for address in (0, 8):
        assert guest.call("clock_time_get", MONOTONIC, 1, address) == SUCCESS
        times.append(guest.number(address, 8))
    assert times[0] <= times[1] < 3600 * 10**9
    assert guest.call("clock_time_get", REALTIME, 1, 0) == SUCCESS
    assert guest.number(0, 8) > 1_600_000_000 * 10**9
    assert guest.call("clock_res_get", MONOTONIC, 0) == SUCCESS
    assert guest.call("clock_time_get", 2, 1, 0) == EINVAL


def test_time_is_not_written_outside_of_the_memory() -> None:
    """An address at its end is a fault, signed or not."""
    caller, clocks = Caller(), Clocks()
    for address in (4089, 4096, 2**31, -8):
        assert clocks.clock_time_get(caller, REALTIME, 0, address) == EFAULT
    assert caller.content == bytes(4096)


def test_who_sleeps_wakes_at_the_first_time() -> None:
    """Of several times the soonest is waited for, and what has come by then is told."""
    hours, caller = Hours(), Caller()
    later, soon, past = (0, MONOTONIC, 5 * 10**9, 0, 0), (0, REALTIME, 2 * 10**9 + 7, 0, 1), (0, MONOTONIC, 0, 0, 1)
    assert sleeping(caller, hours, later, soon) == (SUCCESS, [(101, 0, 0, 0, 0)])
    assert sum(hours.slept) == 1.0
    assert sleeping(caller, hours, later, past) == (SUCCESS, [(101, 0, 0, 0, 0)])
    assert sum(hours.slept) == 1.0


def test_a_time_on_the_clock_that_was_read_is_waited_for() -> None:
    """An absolute time counts from the same beginning as the clock does."""
    hours, caller = Hours(), Caller()
    hours.now += 3 * 10**9
    assert hours.clocks.clock_time_get(caller, MONOTONIC, 0, 0) == SUCCESS
    now = int.from_bytes(caller.read(0, 8), "little")
    sleeping(caller, hours, (0, MONOTONIC, now + 10**9, 0, 1))
    assert sum(hours.slept) == 1.0


def test_a_file_is_always_ready() -> None:
    """Nobody sleeps who waits for a file as well."""
    hours, caller = Hours(), Caller()
    clock, read, write = (0, MONOTONIC, 10**9, 0, 0), (1, 1, 0, 0, 0), (2, 1, 0, 0, 0)
    assert sleeping(caller, hours, clock, read, write) == (SUCCESS, [(101, 0, 1, 1, 0), (102, 0, 2, 1, 0)])
    assert hours.slept == []


@pytest.mark.parametrize("wanted", [(0, 2, 10**9, 0, 0), (0, 77, 10**9, 0, 0), (9, 0, 10**9, 0, 0)])
def test_an_unknown_clock_or_kind_is_told_at_once(wanted: tuple[int, int, int, int, int]) -> None:
    """The event carries the errno notsup."""
    hours, caller = Hours(), Caller()
    assert sleeping(caller, hours, wanted) == (SUCCESS, [(100, ENOTSUP, wanted[0], 0, 0)])
    assert hours.slept == []


@pytest.mark.parametrize("left", [0.0, 0.5])
def test_nobody_sleeps_beyond_the_deadline(left: float) -> None:
    """The wait ends with the time that the call has left."""
    hours, caller = Hours(), Caller(left=left)
    with pytest.raises(DeadlineExceeded, match="wait for 3600 s"):
        sleeping(caller, hours, (0, MONOTONIC, 3600 * 10**9, 0, 0))
    assert sum(hours.slept) == left


def test_who_sleeps_is_woken_when_its_deadline_is_brought_forward() -> None:
    """A call that is ended early waits no longer than a nap, and fails like one whose time is over."""
    hours, caller = Hours(), Caller(left=7200.0)
    wake = hours.clocks._sleep

    def end(seconds: float) -> None:
        wake(seconds)
        caller.left = 0.0

    hours.clocks._sleep = end
    with pytest.raises(DeadlineExceeded, match="wait for 3600 s"):
        sleeping(caller, hours, (0, MONOTONIC, 3600 * 10**9, 0, 0))
    assert len(hours.slept) == 1


def test_who_has_time_enough_sleeps_on() -> None:
    """A deadline that is far away changes nothing."""
    hours, caller = Hours(), Caller(left=10.0)
    assert sleeping(caller, hours, (0, MONOTONIC, 10**9, 0, 0))[0] == SUCCESS
    assert sum(hours.slept) == 1.0


@given(
    wanted=st.integers(0, 2**32 - 1),
    events=st.integers(0, 2**32 - 1),
    count=st.integers(0, 2**32 - 1),
    result=st.integers(0, 2**32 - 1),
)
def test_nothing_is_read_or_written_outside_of_the_memory(wanted: int, events: int, count: int, result: int) -> None:
    """Whatever a module says, it gets an errno or its events, and its memory keeps its size."""
    hours, caller = Hours(), Caller()
    errno = hours.clocks.poll_oneoff(caller, wanted, events, count, result)
    fits = wanted + 48 * count <= 4096 and events + 32 * count <= 4096 and result + 4 <= 4096
    assert errno == (EINVAL if not 1 <= count <= MOST_SUBSCRIPTIONS else SUCCESS if fits else EFAULT)
    assert len(caller.content) == 4096


def test_a_module_sleeps_by_its_clock(make: Any) -> None:
    """What the engine links is ours: a wait of a nanosecond ends, and one beyond the deadline raises."""
    guest = make(clock=True)
    guest.write(0, SUBSCRIPTION.pack(42, 0, MONOTONIC, 1, 0, 0))
    assert guest.call("poll_oneoff", 0, 1024, 1, 2048) == SUCCESS
    assert guest.number(2048) == 1
    assert guest.number(1024, 8) == 42
    guest.left = 0.0
    with pytest.raises(DeadlineExceeded):
        guest.call("poll_oneoff", 0, 1024, 1, 2048)


def test_waiting_of_the_engine_is_not_ended_by_an_epoch(engine: wasmtime.Engine, module: wasmtime.Module) -> None:
    """Which is why ours stands in its place; this says so when it no longer holds."""
    linker, store = wasmtime.Linker(engine), wasmtime.Store(engine)
    linker.define_wasi()
    store.set_wasi(wasmtime.WasiConfig())
    store.set_epoch_deadline(1)
    exports = linker.instantiate(store, module).exports(store)
    memory: Any = exports["memory"]
    poll: Any = exports["poll_oneoff"]
    memory.write(store, SUBSCRIPTION.pack(0, 0, MONOTONIC, 200_000_000, 0, 0), 0)
    passed = threading.Timer(0.02, engine.increment_epoch)
    passed.start()
    assert poll(store, 0, 1024, 1, 2048) == SUCCESS  # it came back by itself, and no trap ended it
    passed.join()
    with pytest.raises(wasmtime.Trap):
        poll(store, 0, 1024, 1, 2048)


# --- linking ----------------------------------------------------------------------------------------------------------


def test_only_what_is_imported_is_shadowed() -> None:
    """Functions that are granted, not imported, or of another module are left alone."""
    imports = [Import("random_get"), Import("fd_write"), Import("clock_time_get", module="env")]
    assert sorted(WasiGrants().shadows(imports)) == [f"{MODULE}.random_get"]
    assert WasiGrants(random=True).shadows(imports) == {}


def test_it_is_known_whether_a_module_needs_a_context() -> None:
    """One function of preview 1 is enough."""
    assert imports_wasi([Import("f", module="env"), Import("fd_write")])
    assert not imports_wasi([Import("fd_write", module="env")])


def test_what_is_defined_later_takes_the_place(engine: wasmtime.Engine, module: wasmtime.Module) -> None:
    """A host function under a WASI name is called instead of the engine's."""
    linker, store = wasmtime.Linker(engine), wasmtime.Store(engine)
    WasiGrants().define(linker)
    linker.define_func(MODULE, "sched_yield", wasmtime.FuncType([], [wasmtime.ValType.i32()]), lambda: 33)
    store.set_epoch_deadline(10)
    function: Any = linker.instantiate(store, module).exports(store)["sched_yield"]
    assert function(store) == 33


HOSTILE: Final = (1, 3, 8, 65_535, 65_536, 2**31 - 1, -(2**31), -1)


@pytest.mark.parametrize("value", HOSTILE)
def test_no_argument_harms_the_process(make: Any, tmp_path: Path, value: int) -> None:
    """Each function gives an errno or ends the call, whatever it is handed."""
    (tmp_path / "file").write_bytes(b"x")
    guest = make(folders=[Folder(guest="/", host=str(tmp_path), writable=True)], clock=True, random=True)
    guest.left = 0.0
    for name in sorted(set(FUNCTIONS) - {"proc_exit"}):
        for count in range(len(FUNCTIONS[name])):
            arguments = [3] * count + [value] * (len(FUNCTIONS[name]) - count)
            try:
                assert 0 <= guest.call(name, *arguments) <= ENOTCAPABLE
            except (wasmtime.WasmtimeError, DeadlineExceeded):
                continue
            finally:
                guest.grants.configure(guest.store)
    assert guest.call("sched_yield") == SUCCESS


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (3, "wasi is 3"),
        ({"argument": []}, "'argument' is no key. Did you mean arguments?"),
        ({"x": 1}, "There are arguments, environment, folders, clock, random, stdin, stdout, stderr"),
        ({"arguments": "text"}, "arguments is 'text' (wanted a list)"),
        ({"arguments": [1]}, "arguments is 1 (wanted text)"),
        ({"arguments": ["a\0b"]}, "(wanted text without NUL)"),
        ({"arguments": ["\udc80"]}, "(wanted text that UTF-8 can say)"),
        ({"environment": []}, "environment is [] (wanted a table)"),
        ({"environment": {"": "x"}}, "environment is '' (wanted text that is not empty)"),
        ({"environment": {"A=B": "x"}}, "environment is 'A=B' (wanted a name without =)"),
        ({"environment": {1: "x"}}, "environment is 1 (wanted text)"),
        ({"clock": 1}, "clock is 1 (wanted true or false)"),
        ({"random": "yes"}, "random is 'yes' (wanted true or false)"),
        ({"stdout": ""}, "stdout is '' (wanted text that is not empty)"),
        ({"stdin": True}, "stdin is True (wanted text)"),
        ({"folders": {"guest": "/"}}, "(wanted a list)"),
        ({"folders": ["/"]}, "folders is '/' (wanted a table)"),
        ({"folders": [{"guest": "/"}]}, "folders: no host (wanted guest and host)"),
        ({"folders": [{"guest": "/", "hots": "/"}]}, "folders: 'hots' is no key. Did you mean host?"),
        ({"folders": [{"guest": "", "host": "/"}]}, "folders: guest is '' (wanted text that is not empty)"),
        ({"folders": [{"guest": "/", "host": "/", "writable": 1}]}, "writable is 1 (wanted true or false)"),
        ({"folders": [{"guest": "/", "host": "/"}] * 2}, "guest is '/' (wanted a name for each folder)"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(table: Any, says: str) -> None:
    """The error names the key, the value and what was wanted."""
    with pytest.raises(ConfigurationError) as caught:
        WasiGrants.read(table)
    assert says in str(caught.value)


@pytest.mark.parametrize("value", ["hush\0", 123 * 8, "hush\udc80"])
def test_no_error_and_no_text_shows_the_environment(value: object) -> None:
    """Values may be secrets, and errors are logged."""
    with pytest.raises(ConfigurationError) as caught:
        WasiGrants.read({"environment": {"KEY": value}})
    assert "KEY" in str(caught.value)
    assert "hush" not in repr(caught.value) + str(caught.value)
    assert "984" not in str(caught.value)
    grants = WasiGrants(environment={"KEY": "hush"})
    assert "hush" not in repr(grants) + " ".join(grants.in_words())


names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=8)
tables = st.fixed_dictionaries(
    {},
    optional={
        "arguments": st.lists(names | st.just(""), max_size=3),
        "environment": st.dictionaries(names.filter(lambda name: "=" not in name), names | st.just(""), max_size=3),
        "folders": st.lists(
            st.builds(
                lambda guest, writable: {"guest": guest, "host": "/x", "writable": writable}, names, st.booleans()
            ),
            max_size=3,
            unique_by=lambda folder: folder["guest"],
        ),
        "clock": st.booleans(),
        "random": st.booleans(),
        "stdin": st.none() | names,
        "stdout": st.none() | names,
        "stderr": st.none() | names,
    },
)


@given(tables)
def test_grants_are_what_was_read(table: Mapping[str, Any]) -> None:
    """What is written as JSON is read again as the same, and copies are equal."""
    grants = WasiGrants.read(table)
    assert WasiGrants.read(json.loads(json.dumps(grants.to_mapping()))) == grants
    assert pickle.loads(pickle.dumps(grants)) == grants
    assert hash(grants) == hash(WasiGrants.read(table))


def test_nothing_is_granted_by_default() -> None:
    """All grants have to be named."""
    assert WasiGrants.read(None) == WasiGrants.read({}) == WasiGrants()
    assert WasiGrants().to_mapping() == {}
    assert WasiGrants().in_words() == ()


def test_grants_are_said_in_words() -> None:
    """Counts, names and flags; a person sees what a module may do."""
    folders = [Folder(guest="/in", host="/x"), Folder(guest="/out", host="/y", writable=True)]
    grants = WasiGrants(
        arguments=["a"], environment={"A": "1", "B": "2"}, folders=folders, clock=True, stdout="inherit"
    )
    assert grants.in_words() == (
        "1 argument",
        "2 variables",
        "/in (read-only)",
        "/out (writable)",
        "clock",
        "stdout: inherit",
    )


@pytest.mark.parametrize(
    ("granted", "opened"),
    [
        ({}, ()),
        ({"stdin": "inherit", "stdout": "inherit", "clock": True, "random": True, "arguments": ["a"]}, ()),
        ({"stdin": "a", "stdout": "b", "stderr": "c"}, ("file for stdin", "file for stdout", "file for stderr")),
        ({"folders": [{"guest": "/a", "host": "/"}, {"guest": "/b", "host": "/"}]}, ("folder /a", "folder /b")),
    ],
)
def test_what_is_opened_is_in_the_way_of_a_reset(granted: Mapping[str, Any], opened: tuple[str, ...]) -> None:
    """Folders and files are, each in words, and nothing else is."""
    assert WasiGrants.read(granted).obstacles() == tuple(f"the {one} is opened anew for each use" for one in opened)


def test_a_new_context_empties_the_file_that_was_written_to(make: Any, tmp_path: Path) -> None:
    """Which is why a reset after the use would be too early."""
    path = tmp_path / "out"
    guest = make(stdout=str(path))
    guest.written(b"filled")
    assert path.read_bytes() == b"filled"
    guest.grants.configure(guest.store)
    assert path.read_bytes() == b""


def test_a_relative_folder_is_that_of_the_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of the working folder does not change what was granted."""
    monkeypatch.chdir(tmp_path)
    assert Folder(guest="/", host="here").host == str(tmp_path / "here")
