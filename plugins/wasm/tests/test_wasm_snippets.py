"""What the page about this plugin shows, run."""

from __future__ import annotations

import logging
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import wasmtime
from weighbridge_hookspecs import DeadlineExceeded, GateStatistics, OutOfFuel, PluginContext, StateRefused, Trapped

from weighbridge_wasm import Caller, HostFunction, WasmScaling
from weighbridge_wasm.binary import read
from weighbridge_wasm.config import ScalingSettings, read_section, read_settings


# snippet: call
class Checksums:
    """Has a module of somebody else's do its sums."""

    def __init__(self, context: PluginContext) -> None:
        self._wasm = context.capabilities["wasm"]
        bounds = {"max_pages": 64, "deadline_seconds": 2.0}
        self._module = self._wasm.register("checksums.wasm", bounds, owner=context.name)

    def checksum(self, number: int) -> int:
        found: int = self._wasm.call(self._module, "checksum", number)
        return found


# end snippet


# snippet: session
def reversed_by(wasm: WasmScaling, module_id: str, text: bytes) -> bytes:
    with wasm.session(module_id) as session:
        address = session.call("allocate", len(text))
        session.write(address, text)
        session.call("reverse", address, len(text))
        return session.read(address, len(text))


# end snippet


# snippet: functions
class Shop:
    """Lets a module ask for prices, and log."""

    def __init__(self, context: PluginContext) -> None:
        self._log = context.log
        self._wasm = context.capabilities["wasm"]
        functions = {"shop.price": self._price, "shop.log": HostFunction(self._write, wants_memory=True)}
        self._module = self._wasm.register("basket.wasm", functions=functions, owner=context.name)

    def total(self, article: int, number: int) -> int:
        found: int = self._wasm.call(self._module, "total", article, number)
        return found

    def _price(self, article: int) -> int:
        return {1: 250, 2: 399}[article]  # a KeyError reaches the call that asked, and no other

    def _write(self, caller: Caller, address: int, nbytes: int) -> None:
        self._log.info("basket: %s", caller.read(address, nbytes).decode())


# end snippet


# snippet: wasi
def convert(wasm: WasmScaling, module: str, folder: str) -> bytes:
    granted = {
        "arguments": ["convert", "/data/in"],
        "folders": [{"guest": "/data", "host": folder, "writable": True}],
        "clock": True,
    }
    module_id = wasm.register(module, {"wasi": granted})
    try:
        wasm.call(module_id, "_start")
        with open(f"{folder}/out", "rb") as file:
            return file.read()
    finally:
        wasm.unregister(module_id)


# end snippet


# snippet: output
class Output:
    """Takes what a module prints: a host function in the place of WASI's own."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.functions = {"wasi_snapshot_preview1.fd_write": HostFunction(self._write, wants_memory=True)}

    def _write(self, caller: Caller, descriptor: int, vectors: int, count: int, result: int) -> int:
        written = 0
        for at in range(vectors, vectors + 8 * count, 8):
            address, nbytes = (int.from_bytes(caller.read(at + skip, 4), "little") for skip in (0, 4))
            self.content += caller.read(address, nbytes)
            written += nbytes
        caller.write(result, written.to_bytes(4, "little"))
        return 0


# end snippet


# snippet: state
class Counter:
    """A module that knows tomorrow what it was told today."""

    def __init__(self, context: PluginContext) -> None:
        self._wasm = context.capabilities["wasm"]
        self._module = self._wasm.register("counter.wasm", {"keep_state": True}, name="counter", owner=context.name)

    def add(self, number: int) -> int:
        total: int = self._wasm.call(self._module, "add", number)
        return total

    def save(self) -> None:
        self._wasm.suspend(self._module)  # the next call finds it again, also after a restart


# end snippet


# snippet: errors
def outcome(wasm: WasmScaling, module_id: str, function: str) -> str:
    try:
        return str(wasm.call(module_id, function, deadline_seconds=0.05))
    except Trapped as error:
        return f"trapped: {error.code}"
    except (OutOfFuel, DeadlineExceeded) as error:
        return f"stopped: {error.message}"


# end snippet

SETTINGS = """\
# snippet: settings
[plugins.wasm]
max_pages_allowed = 4096
max_idle_bytes = 134217728
load_source = "system"

[plugins.wasm.module]
max_pages = 128
fuel = 1000000000
deadline_seconds = 5.0
# end snippet
"""

SECTION = """\
# snippet: section
max_pages = 1024
deadline_seconds = 1.0
keep_state = true
# end snippet
"""

CHECKSUM = """(module (func (export "checksum") (param i32) (result i32)
  (i32.mul (local.get 0) (i32.const 3))))"""
REVERSE = """(module (memory (export "memory") 1)
  (func (export "allocate") (param i32) (result i32) (i32.const 1024))
  (func (export "reverse") (param $from i32) (param $length i32) (local $to i32) (local $byte i32)
    (local.set $to (i32.sub (i32.add (local.get $from) (local.get $length)) (i32.const 1)))
    (loop $next
      (if (i32.lt_u (local.get $from) (local.get $to)) (then
        (local.set $byte (i32.load8_u (local.get $from)))
        (i32.store8 (local.get $from) (i32.load8_u (local.get $to)))
        (i32.store8 (local.get $to) (local.get $byte))
        (local.set $from (i32.add (local.get $from) (i32.const 1)))
        (local.set $to (i32.sub (local.get $to) (i32.const 1)))
        (br $next))))))"""
BASKET = """(module
  (import "shop" "price" (func $price (param i32) (result i32)))
  (import "shop" "log" (func $log (param i32 i32)))
  (memory (export "memory") 1) (data (i32.const 16) "priced")
  (func (export "total") (param i32 i32) (result i32)
    (i32.mul (call $price (local.get 0)) (local.get 1))
    (call $log (i32.const 16) (i32.const 6))))"""
COUNTER = """(module (memory (export "memory") 1)
  (func (export "add") (param i32) (result i32)
    (i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (local.get 0))) (i32.load (i32.const 8))))"""
# opens /data/out and writes the length of what it finds in /data/in, as a letter: a for none
CONVERT = """(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "in") (data (i32.const 8) "out")
  (func (export "_start")
    (drop (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 2) (i32.const 0) (i64.const 2) (i64.const 0)
      (i32.const 0) (i32.const 64)))
    (i32.store (i32.const 128) (i32.const 1024)) (i32.store (i32.const 132) (i32.const 20))
    (drop (call $read (i32.load (i32.const 64)) (i32.const 128) (i32.const 1) (i32.const 68)))
    (drop (call $open (i32.const 3) (i32.const 0) (i32.const 8) (i32.const 3) (i32.const 1) (i64.const 64)
      (i64.const 0) (i32.const 0) (i32.const 64)))
    (i32.store8 (i32.const 1024) (i32.add (i32.const 97) (i32.load (i32.const 68))))
    (i32.store (i32.const 132) (i32.const 1))
    (drop (call $write (i32.load (i32.const 64)) (i32.const 128) (i32.const 1) (i32.const 68)))))"""
PRINTS = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\20\\00\\00\\00\\05\\00\\00\\00\\28\\00\\00\\00\\03\\00\\00\\00")
  (data (i32.const 32) "hello   you")
  (func (export "print") (result i32)
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 2) (i32.const 64))) (i32.load (i32.const 64))))"""
FAILS = """(module
  (func (export "fine") (result i32) (i32.const 7))
  (func (export "fall") (unreachable))
  (func (export "hang") (loop (br 0))))"""


class Door:
    """A gate with room for everybody."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    @contextmanager
    def enter(self, **_: Any) -> Iterator[None]:
        yield

    def resize(self, limit: int, **_: Any) -> None:
        self.limit = limit

    def statistics(self) -> GateStatistics:
        return GateStatistics(**{field.name: 0 for field in attrs.fields(GateStatistics)})

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
    """What a plugin needs of a host here."""

    name = "wasm"
    log = logging.getLogger("test.wasm.snippets")

    def __init__(self, store: Drawer) -> None:
        self.store = store
        self.capabilities: dict[str, object] = {}

    def gate(self, limit: int, **_: Any) -> Door:
        return Door(limit)


@contextmanager
def running(store: Drawer, folder: Path) -> Iterator[Any]:
    """A context with the capability, as long as the block lasts."""
    context: Any = Context(store)
    wasm = WasmScaling(context, ScalingSettings(cache_folder=str(folder)))
    stop = threading.Event()
    ticker = threading.Thread(target=wasm.engine.run_ticker, args=(stop,))
    ticker.start()
    context.capabilities["wasm"] = wasm
    try:
        yield context
    finally:
        stop.set()
        wasm.close()
        ticker.join()


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Any]:
    with running(Drawer(), tmp_path / "cache") as found:
        yield found


@pytest.fixture
def wasm(context: Any) -> WasmScaling:
    found: WasmScaling = context.capabilities["wasm"]
    return found


@pytest.fixture(autouse=True)
def _modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules that the page names lie in the working folder."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("checksums", CHECKSUM), ("basket", BASKET), ("counter", COUNTER), ("convert", CONVERT)):
        Path(f"{name}.wasm").write_bytes(wasmtime.wat2wasm(text))


def compiled(text: str) -> bytes:
    return bytes(wasmtime.wat2wasm(text))


def test_a_module_is_called(context: Any) -> None:
    """A plugin registers it by its path, and calls it by name."""
    assert Checksums(context).checksum(14) == 42


def test_bytes_go_in_and_out_of_a_session(wasm: WasmScaling) -> None:
    """Several calls work on one instance, and its memory is at hand."""
    assert reversed_by(wasm, wasm.register(compiled(REVERSE)), b"weighbridge") == b"egdirbhgiew"


def test_a_module_calls_the_host(context: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Its functions are found by name, read its memory, and their exceptions arrive."""
    shop = Shop(context)
    with caplog.at_level(logging.INFO, "test.wasm.snippets"):
        assert shop.total(2, 3) == 1197
    assert "basket: priced" in caplog.text
    with pytest.raises(KeyError):
        shop.total(3, 1)


def test_a_command_works_in_its_folder(wasm: WasmScaling, tmp_path: Path) -> None:
    """It reads and writes files there."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "in").write_bytes(b"xyz")
    assert convert(wasm, "convert.wasm", str(data)) == b"d"


def test_what_a_module_prints_is_taken(wasm: WasmScaling) -> None:
    """A host function under a WASI name is called in its place."""
    output = Output()
    assert wasm.call(wasm.register(compiled(PRINTS), functions=output.functions), "print") == 8
    assert output.content == b"helloyou"


def test_state_outlives_its_process(tmp_path: Path) -> None:
    """What was suspended is there in another host with the same store, and not in one with another."""
    store = Drawer()
    with running(store, tmp_path / "cache") as context:
        counter = Counter(context)
        assert [counter.add(number) for number in (3, 4)] == [3, 7]
        counter.save()
    with running(store, tmp_path / "cache") as context:
        assert Counter(context).add(5) == 12
    with running(Drawer(), tmp_path / "cache") as context:
        assert Counter(context).add(5) == 5
    Path("counter.wasm").write_bytes(compiled(COUNTER.replace("(i32.const 8)", "(i32.const 16)")))
    with running(store, tmp_path / "cache") as context, pytest.raises(StateRefused):
        Counter(context).add(5)


def test_what_ends_a_call_is_told_apart(wasm: WasmScaling) -> None:
    """A trap has a code, and a deadline a sentence."""
    module_id = wasm.register(compiled(FAILS))
    assert outcome(wasm, module_id, "fine") == "7"
    assert outcome(wasm, module_id, "fall") == "trapped: UNREACHABLE"
    assert outcome(wasm, module_id, "hang").startswith("stopped: ")


def test_the_settings_are_those_of_the_page() -> None:
    """What the page shows is understood."""
    settings = read_settings(tomllib.loads(SETTINGS)["plugins"]["wasm"])
    assert (settings.max_pages_allowed, settings.load_source) == (4096, "system")
    assert (settings.module.max_pages, settings.module.deadline_seconds) == (128, 5.0)


def test_the_section_is_that_of_the_page() -> None:
    """A module with it gets what it asks for within what the operator allows."""
    content = SECTION.encode()
    name = b"weighbridge"
    payload = bytes([len(name)]) + name + content
    wasm = compiled(CHECKSUM) + b"\0" + bytes([0x80 | len(payload) & 0x7F, len(payload) >> 7]) + payload
    found = read(wasm).custom["weighbridge"]
    settings = read_settings(tomllib.loads(SETTINGS)["plugins"]["wasm"])
    config = settings.config_for(found)
    assert (config.max_pages, config.deadline_seconds, config.keep_state) == (1024, 1.0, True)
    assert read_section(found) == {"max_pages": 1024, "deadline_seconds": 1.0, "keep_state": True}
