"""``weighbridge wasm``: modules from the command line."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import attrs
import pytest
import wasmtime
from weighbridge_hookspecs import ConfigurationError, GateStatistics, InvalidModule

from weighbridge_wasm.config import ScalingSettings
from weighbridge_wasm.figures import figures
from weighbridge_wasm.report import Reports
from weighbridge_wasm.scaling import WasmScaling
from weighbridge_wasm.state import StateSlots

click = pytest.importorskip("click")
command = pytest.importorskip("weighbridge_wasm.command")

SUMS = """
(module
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "wide") (param i64) (result i64) (local.get 0))
  (func (export "half") (param f64) (result f64) (f64.div (local.get 0) (f64.const 2)))
  (func (export "single") (param f32) (result f32) (local.get 0))
  (func (export "lanes") (param v128) (result v128) (local.get 0))
  (func (export "two") (result i32 f64) (i32.const 7) (f64.const 0.5))
  (func (export "nothing"))
  (func (export "fall") (unreachable))
  (func (export "hang") (loop (br 0))))
"""
MEMORY = """
(module
  (memory (export "memory") 1)
  (func (export "count") (result i32)
    (i32.store (i32.const 64) (i32.add (i32.load (i32.const 64)) (i32.const 1))) (i32.load (i32.const 64)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (table 4 funcref)
  (func (export "mutate") (table.set (i32.const 0) (ref.null func))))
"""
STATEFUL = MEMORY.partition("(table")[0] + ")"
# a command of WASI: it writes its variables to its output, and ends with the number of its arguments
COMMAND = """
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $esizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (call $esizes (i32.const 0) (i32.const 4)))
    (drop (call $environ (i32.const 64) (i32.const 1024)))
    (i32.store (i32.const 8) (i32.const 1024))
    (i32.store (i32.const 12) (i32.load (i32.const 4)))
    (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)))
    (drop (call $sizes (i32.const 0) (i32.const 4)))
    (call $exit (i32.load (i32.const 0)))))
"""
PRINTS = """
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\10\\00\\00\\00\\05\\00\\00\\00") (data (i32.const 16) "hello")
  (func (export "print") (result i32) (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32))))
"""
# waits for an hour by the monotonic clock
SLEEPS = """
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "sleep") (result i32)
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const 3600000000000))
    (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128))))
"""
# gives the errno of opening a file in its folder, and of asking for the time
LOOKS = """
(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "file")
  (func (export "open") (param i64) (result i32)
    (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 0) (local.get 0) (i64.const 0)
      (i32.const 0) (i32.const 64)))
  (func (export "time") (result i32) (call $time (i32.const 0) (i64.const 0) (i32.const 64)))
  (func (export "random") (result i32) (call $random (i32.const 64) (i32.const 8))))
"""


class Screen:
    """A terminal that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.complaints: list[str] = []
        self.tables: list[tuple[tuple[str, ...], list[tuple[str, ...]]]] = []
        self.documents: list[dict[str, Any]] = []

    def say(self, text: str = "") -> None:
        self.lines.append(text)

    def complain(self, text: object) -> None:
        self.complaints.append(str(text))

    def print_table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        self.tables.append((tuple(columns), [tuple(row) for row in rows]))

    def print_json(self, document: Mapping[str, Any]) -> None:
        self.documents.append(json.loads(json.dumps(document, allow_nan=False)))

    def progress(self, what: str, total: int) -> AbstractContextManager[Callable[[str], None]]:
        return nullcontext(lambda step: None)


class Door:
    """A gate with room for everybody."""

    def __init__(self, limit: int) -> None:
        self.limit, self.entered = limit, 0

    @contextmanager
    def enter(self, **_: Any) -> Iterator[None]:
        self.entered += 1
        yield

    def resize(self, limit: int, **_: Any) -> None:
        self.limit = limit

    def statistics(self) -> GateStatistics:
        counts = {field.name: 0 for field in attrs.fields(GateStatistics)}
        return GateStatistics(**counts | {"limit": self.limit, "entered": self.entered, "left": self.entered})

    def release(self) -> None:
        """Nobody waits."""


class Drawer:
    """A store."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    def put(self, key: str, value: bytes) -> None:
        self.values[key] = bytes(value)

    def delete(self, key: str) -> None:
        self.values.pop(key, None)

    def keys(self, prefix: str = "") -> Iterator[str]:
        return iter(sorted(key for key in self.values if key.startswith(prefix)))


class Context:
    """What scaling needs of a host."""

    name = "wasm"
    log = logging.getLogger("test.wasm.command")

    def __init__(self) -> None:
        self.store = Drawer()

    def gate(self, limit: int, **_: Any) -> Door:
        return Door(limit)

    def charge(self, nbytes: int, label: str) -> Any:
        raise AssertionError("nothing is charged here")


@pytest.fixture
def context() -> Any:
    return Context()


@pytest.fixture
def scaling(context: Any, tmp_path: Path) -> Iterator[WasmScaling]:
    """The real thing, with a ticker for deadlines."""
    made = WasmScaling(context, ScalingSettings(cache_folder=str(tmp_path / "cache")))
    stop = threading.Event()
    ticker = threading.Thread(target=made.engine.run_ticker, args=(stop,))
    ticker.start()
    yield made
    stop.set()
    made.close()
    ticker.join()


@attrs.define
class Ran:
    """What became of a command."""

    code: int
    screen: Screen

    @property
    def said(self) -> str:
        return "\n".join(self.screen.lines)

    @property
    def document(self) -> dict[str, Any]:
        (document,) = self.screen.documents
        assert not self.screen.lines
        assert not self.screen.tables
        return document


@pytest.fixture
def run(scaling: WasmScaling) -> Callable[..., Ran]:
    """Type words after ``weighbridge wasm``."""
    from weighbridge_wasm.command import run

    def type_words(*words: object, **given: Any) -> Ran:
        screen = Screen()
        return Ran(run(scaling, [str(word) for word in words], screen, **given), screen)

    return type_words


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    return written(tmp_path / "sums.wat", SUMS)


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# --- calls ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add", "40", "2"), "42"),
        (("add", "-1", "-2"), "-3"),
        (("add", "0xffffffff", "0"), "-1"),
        (("add", "1_000", "0b11"), "1003"),
        (("wide", str(-(2**63))), str(-(2**63))),
        (("wide", str(2**64 - 1)), "-1"),
        (("half", "3"), "1.5"),
        (("half", "-inf"), "-inf"),
        (("half", "-1e3"), "-500.0"),
        (("single", "0.1"), "0.10000000149011612"),
        (("lanes", "000102030405060708090a0b0c0d0e0f"), "0x000102030405060708090a0b0c0d0e0f"),
        (("two",), "7 0.5"),
        (("nothing",), ""),
    ],
)
def test_a_function_is_called_and_says_what_it_gives(
    run: Callable[..., Ran], sums: Path, words: tuple[str, ...], said: str
) -> None:
    """Arguments are read by the signature, and results are printed alone."""
    ran = run("run", sums, *words)
    assert (ran.code, ran.said, ran.screen.complaints) == (0, said, [])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("add", "1"), "add: wanted 2 arguments (i32, i32), had 1"),
        (("add", "1", "2", "3"), "add: wanted 2 arguments (i32, i32), had 3"),
        (("nothing", "1"), "nothing: wanted none, had 1"),
        (("add", "1", "x"), "add, argument 2: wanted i32, a whole number from -2147483648 to 4294967295, had 'x'"),
        (("add", "1.0", "2"), "add, argument 1: wanted i32"),
        (("add", "4294967296", "2"), "add, argument 1: wanted i32"),
        (("half", "a"), "half, argument 1: wanted f64, a number, had 'a'"),
        (("lanes", "00"), "lanes, argument 1: wanted v128, 16 bytes, had 1"),
        (("ad",), "sums.wat exports no function 'ad'. Did you mean add?"),
        (("zzz",), "It has add, fall, half, hang, lanes, nothing, single, two, wide"),
        (("add", "--what", "2"), "add, argument 1: wanted i32"),
        (("add", "1", "2", "--times", "0"), "0 is not in the range"),
        (("add", "1", "2", "--env", "A"), "wanted KEY=VALUE, had 'A'"),
        (("add", "1", "2", "--folder", "/x"), "wanted GUEST=HOST or GUEST=HOST:rw, had '/x'"),
        (("add", "1", "2", "--folder", "/x=/nowhere/at/all"), "'/nowhere/at/all' is no folder"),
    ],
)
def test_wrong_usage_is_named(run: Callable[..., Ran], sums: Path, words: tuple[str, ...], says: str) -> None:
    """The error says which function, which argument and what was wanted."""
    with pytest.raises(click.UsageError) as caught:
        run("run", sums, *words)
    assert says in caught.value.format_message()


def test_without_a_function_the_functions_are_listed(run: Callable[..., Ran], sums: Path) -> None:
    """Each with what it takes and gives, in the order of the module."""
    ((columns, rows),) = run("run", sums).screen.tables
    assert columns == ("function", "takes", "gives")
    assert rows[0] == ("add", "i32 i32", "i32")
    assert ("two", "-", "i32 f64") in rows
    assert ("nothing", "-", "-") in rows
    document = run("run", sums, "--json").document
    assert document["exports"]["add"] == {"params": ["i32", "i32"], "results": ["i32"]}


def test_a_module_without_functions_says_so(run: Callable[..., Ran], tmp_path: Path) -> None:
    """An empty table would say nothing."""
    assert run("run", written(tmp_path / "empty.wat", "(module)")).said == "empty.wat exports no function"


def test_a_binary_is_run_as_it_is(run: Callable[..., Ran], tmp_path: Path) -> None:
    """The text format is for files that end in .wat alone."""
    path = tmp_path / "sums.wasm"
    path.write_bytes(wasmtime.wat2wasm(SUMS))
    assert run("run", path, "add", 2, 3).said == "5"
    for name in ("text.wasm", "broken.wat"):
        with pytest.raises(InvalidModule):
            run("run", written(tmp_path / name, "(module (func)"), "add")


def test_nothing_is_registered_afterwards(run: Callable[..., Ran], scaling: WasmScaling, sums: Path) -> None:
    """Neither when it went well nor when it did not."""
    run("run", sums, "add", 1, 2)
    with pytest.raises(click.UsageError):
        run("run", sums, "add")
    assert scaling.statistics().modules == {}


def test_a_module_of_the_application_is_left_alone(
    run: Callable[..., Ran], scaling: WasmScaling, tmp_path: Path
) -> None:
    """The same module may be registered there with other bounds and a state."""
    wasm = bytes(wasmtime.wat2wasm(STATEFUL))
    module_id = scaling.register(wasm, {"keep_state": True, "max_pages": 3})
    assert [scaling.call(module_id, "count") for _ in range(2)] == [1, 2]
    path = tmp_path / "same.wasm"
    path.write_bytes(wasm)
    assert run("run", path, "count", "--max-pages", 7, "--times", 2).screen.lines[0] == "1"
    assert scaling.call(module_id, "count") == 3
    assert list(scaling.statistics().modules) == [module_id]


# --- what ends a call -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("fall",), "unreachable"),
        (("hang", "--fuel", "10000"), "fuel"),
        (("hang", "--deadline", "0.02"), "in time"),
    ],
)
def test_what_does_not_come_to_its_end_is_told(
    run: Callable[..., Ran], sums: Path, words: tuple[str, ...], says: str
) -> None:
    """Why, on standard error, and with the exit code 3."""
    ran = run("run", sums, *words)
    assert (ran.code, ran.said) == (3, "")
    assert says in " ".join(ran.screen.complaints)
    document = run("run", sums, *words, "--json").document
    assert (document["exit_code"], document["results"]) == (3, [])
    assert says in document["error"]


def test_who_sleeps_is_woken_at_the_deadline(run: Callable[..., Ran], tmp_path: Path) -> None:
    """Waiting ends with the time of the call, and without a clock there is no waiting."""
    path = written(tmp_path / "sleeps.wat", SLEEPS)
    ran = run("run", path, "sleep", "--clock", "--deadline", 0.05)
    assert (ran.code, ran.said) == (3, "")
    assert "wait for 3600 s" in ran.screen.complaints[0]
    assert run("run", path, "sleep", "--deadline", 0.05).said == "76"


def test_memory_is_bounded(run: Callable[..., Ran], tmp_path: Path) -> None:
    """A module grows up to what was said, and no further."""
    path = written(tmp_path / "memory.wat", MEMORY)
    assert run("run", path, "grow", 4, "--max-pages", 5).said == "1"
    assert run("run", path, "grow", 5, "--max-pages", 5).said == "-1"


# --- isolation --------------------------------------------------------------------------------------------------------


def test_each_of_many_calls_is_isolated(run: Callable[..., Ran], tmp_path: Path) -> None:
    """None knows of the one before, and it is said how that was done and how long it took."""
    resets = written(tmp_path / "resets.wat", STATEFUL)
    ran = run("run", resets, "count", "--times", 25)
    assert ran.screen.lines[0] == "1"
    assert ran.screen.lines[1].startswith("25 calls: median ")
    assert ran.screen.lines[2] == "isolated: instances are reset after each call"
    document = run("run", resets, "count", "--times", 25, "--json").document
    assert document["results"] == [1]
    assert len(document["seconds"]) == 25
    assert (document["instances"], document["obstacles"]) == ("reset", [])


def test_why_instances_are_fresh_is_told(run: Callable[..., Ran], tmp_path: Path) -> None:
    """A module that can change its tables says which instruction it is."""
    path = written(tmp_path / "mutable.wat", MEMORY)
    ran = run("run", path, "count", "--times", 1)
    assert ran.screen.lines[1].startswith("1 call: ")
    assert ran.screen.lines[2].startswith("isolated: each call had a fresh instance (")
    assert "table" in ran.screen.lines[2]
    assert run("run", path, "count", "--json").document["instances"] == "fresh"


@pytest.mark.parametrize(("value", "said"), [("nan", "nan"), ("inf", "inf"), ("1.5", 0.75)])
def test_json_has_no_numbers_that_it_does_not_know(
    run: Callable[..., Ran], sums: Path, value: str, said: str | float
) -> None:
    """What is no number of JSON is text."""
    assert run("run", sums, "half", value, "--json").document["results"] == [said]


# --- WASI -------------------------------------------------------------------------------------------------------------


def test_a_command_is_started_and_its_exit_code_is_ours(
    run: Callable[..., Ran], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has its name and the words that were given, the variables that were given, and writes to our output."""
    monkeypatch.setenv("HIDDEN", "x")
    path = written(tmp_path / "command.wat", COMMAND)
    ran = run("run", path, "--arg", "one", "--arg", "--two", "--env", "SHOWN=yes=no")
    assert ran.code == 3
    assert ran.screen.complaints == []
    assert capfd.readouterr().out == "SHOWN=yes=no\0"


def test_a_file_has_what_the_last_call_printed(run: Callable[..., Ran], tmp_path: Path) -> None:
    """Each call begins it anew, and nothing empties it afterwards."""
    path, out = written(tmp_path / "prints.wat", PRINTS), tmp_path / "out"
    document = run("run", path, "print", "--stdout", out, "--times", 3, "--json").document
    assert out.read_bytes() == b"hello"
    assert (document["instances"], document["results"]) == ("fresh", [0])
    assert document["obstacles"] == ["the file for stdout is opened anew for each use"]


def test_a_document_stands_alone(run: Callable[..., Ran], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With --json the output of a module goes nowhere, or where it was told to."""
    path, out = written(tmp_path / "command.wat", COMMAND), tmp_path / "out"
    assert run("run", path, "--env", "A=1", "--json").document["exit_code"] == 1
    assert run("run", path, "--env", "A=1", "--json", "--stdout", out).document["exit_code"] == 1
    assert run("run", path, "--env", "A=1", "--stdout", "none").code == 1
    assert capfd.readouterr().out == ""
    assert out.read_bytes() == b"A=1\0"


def test_a_stream_that_this_process_does_not_have_is_not_inherited(
    run: Callable[..., Ran], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started with its output closed, Python has no sys.stdout, and the number belongs to whatever was opened next."""
    path = written(tmp_path / "command.wat", COMMAND)
    monkeypatch.setattr(sys, "stdout", None)
    assert run("run", path, "--env", "A=1").code == 1
    assert run("run", path, "--env", "A=1", "--stdout", "inherit").code == 1
    monkeypatch.undo()
    assert capfd.readouterr().out == ""


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="there is no device without an end")
def test_a_device_is_not_read(run: Callable[..., Ran]) -> None:
    """It may have no end, and reading would take all memory that there is."""
    with pytest.raises(click.UsageError, match="is no file"):
        run("run", "/dev/zero")


@pytest.mark.parametrize(
    ("options", "function", "errno"),
    [
        ((), ("open", 2), 8),
        (("--folder", "/=HERE"), ("open", 2), 0),
        (("--folder", "/=HERE"), ("open", 64), 63),
        (("--folder", "/=HERE:ro"), ("open", 64), 63),
        (("--folder", "/=HERE:rw"), ("open", 64), 0),
        ((), ("time",), 76),
        (("--clock",), ("time",), 0),
        ((), ("random",), 76),
        (("--random",), ("random",), 0),
    ],
)
def test_a_module_has_what_was_granted(
    run: Callable[..., Ran], tmp_path: Path, options: tuple[str, ...], function: tuple[object, ...], errno: int
) -> None:
    """Folders, the time and randomness are there if an option says so."""
    path = written(tmp_path / "looks.wat", LOOKS)
    (tmp_path / "file").write_text("x")
    words = [option.replace("HERE", str(tmp_path)) for option in options]
    assert run("run", path, *function, *words).said == str(errno)


def test_a_folder_is_that_of_the_moment(scaling: WasmScaling, tmp_path: Path) -> None:
    """A call that went well is not ended by what happens to its folder; the next one finds what is there then."""
    folder = tmp_path / "folder"

    def fill() -> None:
        folder.mkdir()
        (folder / "file").write_text("x")

    def remove() -> None:
        (folder / "file").unlink()
        folder.rmdir()

    fill()
    wasm = bytes(wasmtime.wat2wasm(LOOKS))
    module_id = scaling.register(wasm, {"wasi": {"folders": [{"guest": "/", "host": str(folder)}]}})
    assert [scaling.call(module_id, "open", 2) for _ in range(2)] == [0, 0]
    with scaling.session(module_id) as session:
        assert session.call("open", 2) == 0
        remove()
    with pytest.raises(ConfigurationError, match=str(folder)):
        scaling.call(module_id, "open", 2)
    fill()
    assert scaling.call(module_id, "open", 2) == 0


# --- help and statistics ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("--help",), ("-h",), ("run", "--help"), ("stats", "--help")])
def test_help_is_no_error(run: Callable[..., Ran], capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    """It is printed under the name by which the command is typed."""
    assert run(*words).code == 0
    assert "Usage: weighbridge wasm" in capsys.readouterr().out


def test_nothing_typed_is_wrong_usage(run: Callable[..., Ran], capsys: pytest.CaptureFixture[str]) -> None:
    """What could be typed is shown, where errors are."""
    assert run().code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "stats" in shown.err


def test_stats_shows_what_runs(run: Callable[..., Ran], scaling: WasmScaling, tmp_path: Path) -> None:
    """Modules of this process with their calls, the cache, and what is kept."""
    module_id = scaling.register(bytes(wasmtime.wat2wasm(MEMORY)), name="memory")
    scaling.call(module_id, "count")
    ran = run("stats")
    ((columns, rows),) = ran.screen.tables
    (row,) = (dict(zip(columns, row, strict=True)) for row in rows)
    assert (row["module"], row[">uses"], row[">failed"], row[">in use"]) == ("memory", "1", "0", "0")
    assert row["instances"].startswith("fresh: ")
    assert ran.screen.lines[0].startswith("this process: 0 running, 0 waiting, limit ")
    assert str(tmp_path / "cache") in ran.screen.lines[1]


def test_stats_of_nothing_says_so(run: Callable[..., Ran], tmp_path: Path) -> None:
    """Without modules there is no empty table."""
    ran = run("stats", reports=Reports(tmp_path / "running"))
    assert ran.screen.tables == []
    assert ran.screen.lines[0] == "no process has modules, or none that shares this cache folder"


def test_stats_does_not_deny_what_it_cannot_know(run: Callable[..., Ran]) -> None:
    """Without a folder for reports, other processes are unknown, and not without modules."""
    lines = run("stats").screen.lines
    assert lines[-1].startswith("other processes are not known: running-wasm")
    assert not [line for line in lines if line.startswith("no process")]


def test_stats_shows_other_processes(run: Callable[..., Ran], scaling: WasmScaling, tmp_path: Path) -> None:
    """What another process wrote is shown like our own."""
    module_id = scaling.register(bytes(wasmtime.wat2wasm(SUMS)), name="elsewhere")
    there, here = Reports(tmp_path / "running"), Reports(tmp_path / "running")
    there.write(figures(scaling.statistics()))
    scaling.unregister(module_id)
    ran = run("stats", reports=here)
    ((_, rows),) = ran.screen.tables
    assert rows[0][0] == "elsewhere"
    assert ran.screen.lines[0].startswith("process ")
    document = run("stats", "--json", reports=here).document
    assert document["processes"][0]["modules"]["elsewhere"]["obstacles"] == []
    there.close()


def test_no_figure_shows_the_environment(scaling: WasmScaling) -> None:
    """What is written down has the number of the variables, and no value."""
    config = {"wasi": {"environment": {"KEY": "hush"}, "clock": True}}
    module_id = scaling.register(bytes(wasmtime.wat2wasm(SUMS)), config)
    document = figures(scaling.statistics())
    assert document["modules"][module_id]["config"]["wasi"] == ["1 variable", "clock"]
    assert "hush" not in json.dumps(document)


def test_stats_shows_what_is_kept(run: Callable[..., Ran], scaling: WasmScaling, context: Any) -> None:
    """Each state in the store with its size."""
    module_id = scaling.register(bytes(wasmtime.wat2wasm(STATEFUL)), {"keep_state": True})
    scaling.call(module_id, "count")
    scaling.suspend(module_id)
    states = StateSlots(context.store)
    ran = run("stats", states=states)
    columns, rows = ran.screen.tables[-1]
    assert columns == ("state of", ">kept", ">pages", "slot")
    assert [(row[0], row[2]) for row in rows] == [(module_id, "1")]
    assert run("stats", "--json", states=states).document["states"][module_id]["pages"] == 1
    states.discard(module_id)
    assert run("stats", states=states).screen.lines[-1] == "no state is kept"


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [('(module (func (export "spin") (loop br 0)))', ["spin"]), (SLEEPS, ["sleep", "--clock"])],
    ids=["spins", "sleeps"],
)
def test_ctrl_c_ends_a_call_that_never_ends(
    scaling: WasmScaling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: list[str]
) -> None:
    """The module's code does not notice it, so it is run in a thread of its own, and ended from outside."""
    endless = written(tmp_path / "endless.wat", text)
    began = threading.Event()
    original = scaling.call

    def call(*arguments: Any, **options: Any) -> Any:
        began.set()
        return original(*arguments, **options)

    def interrupt() -> None:
        began.wait()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    monkeypatch.setattr(scaling, "call", call, raising=False)
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            command.run(scaling, ["run", str(endless), *words, "--deadline", "900", "--times", "50"], Screen())
    finally:
        signal.signal(signal.SIGINT, previous)
    assert scaling.statistics().modules == {}


def test_ctrl_c_says_how_to_end_a_call_that_waits_for_input(
    scaling: WasmScaling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits in the kernel cannot be ended by us: who typed Ctrl-C learns what to type."""
    path = written(tmp_path / "sums.wat", SUMS)
    began, told = threading.Event(), threading.Event()

    def call(*_: Any) -> None:
        began.set()
        told.wait()

    def interrupt() -> None:
        began.wait()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    class Listening(Screen):
        def complain(self, text: object) -> None:
            super().complain(text)
            told.set()

    screen = Listening()
    monkeypatch.setattr(scaling, "call", call, raising=False)
    monkeypatch.setattr(command, "_PATIENCE_SECONDS", 0.0)
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            command.run(scaling, ["run", str(path), "nothing"], screen)
    finally:
        signal.signal(signal.SIGINT, previous)
    assert len(screen.complaints) == 1
    assert "Ctrl-C twice more" in screen.complaints[0]
