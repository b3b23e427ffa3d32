"""The plugin in a host: these tests need ``weighbridge[testing]``, and are skipped where it is not installed."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
import wasmtime
from weighbridge_hookspecs import (
    ConfigurationError,
    DeadlineExceeded,
    InvalidModule,
    OutOfFuel,
    Saturated,
    ScalingLimits,
    ServiceUnavailable,
    StateRefused,
    StorageDamaged,
    StorageFailed,
    Trapped,
    UnknownFunction,
    UnknownModule,
)

isolation = pytest.importorskip(
    "weighbridge.isolation", reason="pip install 'weighbridge[testing]' to test the plugin in a host"
)
fabricate = pytest.importorskip("weighbridge.fabricate")
stores = pytest.importorskip("weighbridge.leases.store")

MIB: Final = 1 << 20
MODULE: Final = bytes(
    wasmtime.wat2wasm(
        """
        (module
          (import "env" "note" (func $note (param i32)))
          (memory (export "memory") 1)
          (global $secret (mut i32) (i32.const 7))
          (data (i32.const 64) "pristine")
          (func (export "add") (param i32 i32) (result i32) local.get 0 local.get 1 i32.add)
          (func (export "count") (result i32)
            (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))
            (global.set $secret (i32.add (global.get $secret) (i32.const 1)))
            (i32.load (i32.const 0)))
          (func (export "secret") (result i32) global.get $secret)
          (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
          (func (export "note") (param i32) (call $note (local.get 0)))
          (func (export "fill") (param i32 i32) (memory.fill (local.get 0) (i32.const 1) (local.get 1)))
          (func (export "beyond") (result i32) (i32.load (i32.const -4)))
          (func (export "spin") (loop br 0)))
        """
    )
)
FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {"env.note": lambda number: None}


def section(content: bytes) -> bytes:
    """A module with a custom section of ours: https://webassembly.github.io/spec/core/binary/modules.html"""
    body = bytes([len(b"weighbridge")]) + b"weighbridge" + content
    assert len(body) < 128
    return MODULE + bytes([0, len(body)]) + body


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Nothing was weighed or compiled yet, and nothing imported: what is imported already, a load does not bring in."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        folder = tmp_path_factory.mktemp("cache")
        monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == "weighbridge_wasm"]:
            monkeypatch.delitem(sys.modules, name)
        yield folder


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Any]:
    """A host that lends a store, for tests that load and unload."""
    with isolation.IsolatedHost(meter="process", store=tmp_path / "store.sqlite3") as host:
        host.allow("wasm")
        yield host


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A host for all other tests, for a load takes a second."""
    with isolation.IsolatedHost(meter="process", store=tmp_path_factory.mktemp("lasting") / "store.sqlite3") as host:
        host.allow("wasm")
        host.load("wasm")
        yield host


@pytest.fixture
def wasm(lasting: Any) -> Iterator[Any]:
    """The capability, without a module; what its pool has counted so far is taken off."""
    scaling = lasting.capabilities["wasm"]
    yield scaling
    for module_id in scaling.statistics().modules:
        with suppress(UnknownModule):
            while True:
                scaling.unregister(module_id)


# --- calls ------------------------------------------------------------------------------------------------------------


def test_no_call_sees_what_another_has_left(wasm: Any) -> None:
    """Memory and globals are as at the beginning, in the instance that was used before."""
    before = wasm.statistics().pool
    module_id = wasm.register(MODULE, functions=FUNCTIONS)
    assert [wasm.call(module_id, "count") for _ in range(5)] == [1] * 5
    assert wasm.call(module_id, "secret") == 7
    found = wasm.statistics()
    assert (found.pool.made - before.made, found.pool.reused - before.reused) == (1, 5)
    assert (found.modules[module_id].uses, found.modules[module_id].completed) == (6, 6)
    assert found.modules[module_id].obstacles == ()


def test_a_session_has_one_instance_for_several_calls(wasm: Any) -> None:
    """It sees its memory, and the next one sees nothing of it."""
    module_id = wasm.register(MODULE, functions=FUNCTIONS)
    with wasm.session(module_id) as session:
        assert [session.call("count"), session.call("count"), session.call("secret")] == [1, 2, 9]
        session.write(100, b"mine")
        assert session.read(99, 6) == b"\0mine\0"
        assert session.memory_bytes == 65_536
        with pytest.raises(IndexError):
            session.read(65_530, 10)
    with pytest.raises(RuntimeError, match="no session"):
        session.call("count")
    with wasm.session(module_id) as session:
        assert session.read(64, 40) == b"pristine" + bytes(32)


def test_what_a_host_function_raises_reaches_its_call(wasm: Any) -> None:
    """And spoils nothing for the next one."""

    def note(number: int) -> None:
        if number:
            raise KeyError(number)

    module_id = wasm.register(MODULE, functions={"env.note": note})
    with pytest.raises(KeyError, match="5"):
        wasm.call(module_id, "note", 5)
    assert wasm.call(module_id, "note", 0) is None
    assert dict(wasm.statistics().modules[module_id].failed) == {"KeyError": 1}


@pytest.mark.parametrize(
    ("function", "arguments", "options", "error"),
    [
        ("beyond", (), {}, Trapped),
        ("spin", (), {"fuel": 10_000}, OutOfFuel),
        ("spin", (), {"deadline_seconds": 0.05}, DeadlineExceeded),
        ("add", (1,), {}, TypeError),
        ("add", (1, 1 << 40), {}, ValueError),
        ("ad", (), {}, UnknownFunction),
    ],
)
def test_a_call_that_does_not_come_to_its_end_says_why(
    wasm: Any, function: str, arguments: tuple[int, ...], options: dict[str, Any], error: type[Exception]
) -> None:
    """Those after it find everything as it should be."""
    before = wasm.statistics().pool
    module_id = wasm.register(MODULE, functions=FUNCTIONS)
    for _ in range(3):
        with pytest.raises(error):
            wasm.call(module_id, function, *arguments, **options)
        assert wasm.call(module_id, "count") == 1
    found = wasm.statistics()
    assert found.modules[module_id].failed == {error.__name__: 3}
    assert found.pool.closed["spoiled"] - before.closed["spoiled"] == (
        3 if issubclass(error, Trapped | OutOfFuel | DeadlineExceeded) else 0
    )


def test_other_calls_go_on_while_one_never_ends(wasm: Any) -> None:
    """The endless one is ended at its deadline."""
    module_id = wasm.register(MODULE, functions=FUNCTIONS)
    failures: list[Exception] = []

    def spin() -> None:
        try:
            wasm.call(module_id, "spin", deadline_seconds=0.5)
        except DeadlineExceeded as error:
            failures.append(error)

    endless = threading.Thread(target=spin)
    endless.start()
    served = 0
    while endless.is_alive():
        assert wasm.call(module_id, "add", 20, 22) == 42
        served += 1
    endless.join()
    assert served > 10
    assert [error.deadline_seconds for error in failures] == [0.5]  # type: ignore[attr-defined]


def test_a_grown_instance_is_not_used_again(wasm: Any) -> None:
    """It cannot be made smaller; and no instance grows beyond its limit."""
    before = wasm.statistics().pool
    module_id = wasm.register(MODULE, {"max_pages": 3}, functions=FUNCTIONS)
    assert [wasm.call(module_id, "grow", pages) for pages in (2, 3, 2)] == [1, -1, 1]
    assert wasm.statistics().pool.closed["failed_reset"] - before.closed["failed_reset"] == 2


def test_unknown_modules_are_named_with_the_nearest(wasm: Any) -> None:
    """In calls, sessions, and everything else that takes an id."""
    wasm.register(MODULE, name="sums", functions=FUNCTIONS)
    attempts: tuple[Callable[[], Any], ...] = (
        lambda: wasm.call("sms", "add"),
        lambda: wasm.session("sms"),
        lambda: wasm.exports("sms"),
        lambda: wasm.configure("sms", max_pages=2),
        lambda: wasm.unregister("sms"),
    )
    for attempt in attempts:
        with pytest.raises(UnknownModule, match="Did you mean 'sums'"):
            attempt()


# --- registration -----------------------------------------------------------------------------------------------------


def test_a_module_is_there_until_it_was_unregistered_as_often(wasm: Any, tmp_path: Path) -> None:
    """The same module under the same id is registered once, be it given as bytes or as a file."""
    (tmp_path / "sums.wasm").write_bytes(MODULE)
    first = wasm.register(MODULE, functions=FUNCTIONS)
    assert wasm.register(tmp_path / "sums.wasm", functions=FUNCTIONS) == first
    wasm.unregister(first)
    assert wasm.call(first, "add", 1, 2) == 3
    wasm.unregister(first)
    with pytest.raises(UnknownModule):
        wasm.call(first, "add", 1, 2)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((b"nonsense",), {}, InvalidModule, "damaged at byte 0"),
        ((MODULE,), {}, InvalidModule, "env.note"),
        ((MODULE, {"max_pages": 0}), {"functions": FUNCTIONS}, ConfigurationError, "max_pages"),
        ((MODULE, {"max_page": 1}), {"functions": FUNCTIONS}, ConfigurationError, "max_pages"),
        ((MODULE, 7), {"functions": FUNCTIONS}, ConfigurationError, "is int"),
        ((MODULE,), {"functions": FUNCTIONS, "name": "a b"}, ConfigurationError, "cannot be called 'a b'"),
        ((MODULE,), {"functions": FUNCTIONS, "name": "../up"}, ConfigurationError, "cannot be called"),
        ((section(b"max_pages = 'two'"),), {"functions": FUNCTIONS}, ConfigurationError, "max_pages"),
        (("/no/such/file",), {}, FileNotFoundError, "/no/such/file"),
    ],
)
def test_what_cannot_be_registered_leaves_nothing(
    wasm: Any, arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception], text: str
) -> None:
    """The error says what it is about."""
    with pytest.raises(error, match=text):
        wasm.register(*arguments, **options)
    assert wasm.statistics().modules == {}


def test_another_module_cannot_take_a_name(wasm: Any) -> None:
    """Nor the same one with another configuration."""
    wasm.register(MODULE, name="sums", functions=FUNCTIONS)
    with pytest.raises(ConfigurationError, match="with other code"):
        wasm.register(section(b""), name="sums", functions=FUNCTIONS)
    with pytest.raises(ConfigurationError, match="another configuration or other functions"):
        wasm.register(MODULE, {"max_pages": 2}, name="sums", functions=FUNCTIONS)


def test_a_module_asks_in_its_own_section(wasm: Any) -> None:
    """The registration decides over it."""
    asks = section(b"max_pages = 9\nmax_idle = 1")
    module_id = wasm.register(asks, functions=FUNCTIONS)
    config = wasm.statistics().modules[module_id].config
    assert (config.max_pages, config.max_idle) == (9, 1)
    other = wasm.register(asks, {"max_pages": 4}, name="other", functions=FUNCTIONS)
    assert wasm.statistics().modules[other].config.max_pages == 4


def test_limits_change_while_instances_live(wasm: Any) -> None:
    """Each has them from its next use on; a module that would not fit is refused, and all stays as it was."""
    before = wasm.statistics().pool
    module_id = wasm.register(MODULE, functions=FUNCTIONS)
    with wasm.session(module_id) as session:
        wasm.configure(module_id, max_pages=4, deadline_seconds=0.05)
        assert session.call("add", 1, 1) == 2
    assert [wasm.call(module_id, "grow", 4), wasm.call(module_id, "grow", 3)] == [-1, 1]
    with pytest.raises(DeadlineExceeded):
        wasm.call(module_id, "spin")
    assert wasm.statistics().pool.made - before.made == 2
    wrong: tuple[dict[str, Any], ...] = ({"max_pages": 70_000}, {"keep_state": True}, {"wasi": {}}, {"pages": 1})
    for changes in wrong:
        with pytest.raises(ConfigurationError):
            wasm.configure(module_id, **changes)
    assert wasm.statistics().modules[module_id].config.max_pages == 4


def test_what_was_changed_is_there_again_after_a_restart(host: Any) -> None:
    """As long as the application registers the module as before."""
    host.load("wasm")
    wasm = host.capabilities["wasm"]
    wasm.register(MODULE, {"max_pages": 8}, name="sums", functions=FUNCTIONS)
    wasm.configure("sums", max_pages=5)
    host.unload("wasm")
    host.load("wasm")
    again = host.capabilities["wasm"]
    again.register(MODULE, {"max_pages": 8}, name="sums", functions=FUNCTIONS)
    assert again.statistics().modules["sums"].config.max_pages == 5
    again.unregister("sums")
    again.register(MODULE, {"max_pages": 9}, name="sums", functions=FUNCTIONS)
    assert again.statistics().modules["sums"].config.max_pages == 9


# --- state ------------------------------------------------------------------------------------------------------------


def test_a_module_that_keeps_state_knows_it_after_a_restart(host: Any) -> None:
    """Its memory and its hidden globals, suspended when the plugin is unloaded."""
    host.load("wasm")
    wasm = host.capabilities["wasm"]
    wasm.register(MODULE, {"keep_state": True}, name="counter", functions=FUNCTIONS)
    assert [wasm.call("counter", "count") for _ in range(3)] == [1, 2, 3]
    assert wasm.call("counter", "grow", 2) == 1
    receipt = host.unload("wasm")
    assert (receipt.state, receipt.failures) == ("unloaded", ())
    del wasm
    host.load("wasm")
    again = host.capabilities["wasm"]
    again.register(MODULE, {"keep_state": True}, name="counter", functions=FUNCTIONS)
    assert again.statistics().modules["counter"].suspended_bytes > 0
    assert [again.call("counter", "count"), again.call("counter", "secret"), again.call("counter", "grow", 0)] == [
        4,
        11,
        3,
    ]


def test_after_a_trap_a_module_knows_what_was_suspended_last(wasm: Any) -> None:
    """What came after that is gone, for nobody knows what was left half done."""
    wasm.register(MODULE, {"keep_state": True}, name="trapped", functions=FUNCTIONS)
    wasm.call("trapped", "count")
    assert wasm.suspend("trapped") > 0
    assert wasm.call("trapped", "count") == 2
    with pytest.raises(Trapped):
        wasm.call("trapped", "beyond")
    assert wasm.call("trapped", "count") == 2


def test_state_of_other_code_is_refused_and_stays(wasm: Any) -> None:
    """The error says so, and the module that it is of gets it back."""
    wasm.register(MODULE, {"keep_state": True}, name="counter", functions=FUNCTIONS)
    wasm.call("counter", "count")
    wasm.unregister("counter")
    wasm.register(section(b""), {"keep_state": True}, name="counter", functions=FUNCTIONS)
    with pytest.raises(StateRefused, match="of other code"):
        wasm.call("counter", "count")
    wasm.unregister("counter")
    wasm.register(MODULE, {"keep_state": True}, name="counter", functions=FUNCTIONS)
    assert wasm.call("counter", "count") == 2


def test_a_damaged_state_is_an_error_that_names_it(host: Any, tmp_path: Path) -> None:
    """It is still there, byte for byte, when it was refused."""

    def kept() -> dict[str, bytes]:
        return {key: space.get(key) or b"" for key in list(space.keys("internal/wasm-state/"))}

    host.load("wasm")
    host.capabilities["wasm"].register(MODULE, {"keep_state": True}, name="counter", functions=FUNCTIONS)
    host.capabilities["wasm"].call("counter", "count")
    host.close()
    with stores.StoreFile(tmp_path / "store.sqlite3") as store:
        space = store.namespace("wasm")
        for key, content in kept().items():
            if not key.endswith("/head"):
                space.put(key, content[:-1] + bytes([content[-1] ^ 1]))
        damaged = kept()
    host.load("wasm")
    host.capabilities["wasm"].register(MODULE, {"keep_state": True}, name="counter", functions=FUNCTIONS)
    with pytest.raises(StorageDamaged, match="'counter'"):
        host.capabilities["wasm"].call("counter", "count")
    host.close()
    with stores.StoreFile(tmp_path / "store.sqlite3") as store:
        space = store.namespace("wasm")
        assert kept() == damaged
        assert len(damaged) == 2


def test_state_needs_a_store_and_a_module_that_can_be_kept_whole(wasm: Any) -> None:
    """Both are said at the registration."""
    dropping = bytes(
        wasmtime.wat2wasm(
            '(module (memory (export "m") 1) (data $d "x")'
            ' (func (export "f") (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1)) (data.drop $d)))'
        )
    )
    with pytest.raises(InvalidModule, match="cannot be kept whole"):
        wasm.register(dropping, {"keep_state": True})
    wasm.register(MODULE, name="forgets", functions=FUNCTIONS)
    with pytest.raises(ConfigurationError, match="keeps no state"):
        wasm.suspend("forgets")


def test_without_a_store_modules_run_and_keep_nothing() -> None:
    """What needs one is refused with what to do."""
    with isolation.IsolatedHost(meter="process") as host:
        host.allow("wasm")
        host.load("wasm")
        wasm = host.capabilities["wasm"]
        module_id = wasm.register(MODULE, functions=FUNCTIONS)
        assert wasm.configure(module_id, max_pages=2).max_pages == 2
        assert wasm.call(module_id, "count") == 1
        with pytest.raises(ServiceUnavailable, match="store"):
            wasm.register(MODULE, {"keep_state": True}, name="counter", functions=FUNCTIONS)


def test_a_full_store_keeps_the_module_going(wasm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state cannot be suspended, so it stays in memory."""
    wasm.register(MODULE, {"keep_state": True}, name="stubborn", functions=FUNCTIONS)
    wasm.call("stubborn", "count")

    def full(*_: object) -> None:
        raise StorageFailed("no room on the disk")

    monkeypatch.setattr(stores.NamespaceStore, "put", full)
    with pytest.raises(StorageFailed):
        wasm.suspend("stubborn")
    assert wasm.trim(1) == 0
    assert wasm.call("stubborn", "count") == 2


# --- memory on the books ----------------------------------------------------------------------------------------------


def test_what_instances_occupy_is_on_the_account_and_released_under_pressure(host: Any) -> None:
    """First the idle ones, then the states that nobody uses; what those knew is there at their next call."""
    host.load("wasm")
    wasm = host.capabilities["wasm"]
    warm = wasm.register(MODULE, {"max_pages": 128}, name="warm", functions=FUNCTIONS)
    wasm.register(MODULE, {"keep_state": True}, name="kept", functions=FUNCTIONS)
    before = host.account("wasm").native_bytes
    with wasm.session(warm) as session:
        assert session.call("grow", 63) == 1
        session.call("fill", 0, 4 * MIB)
    wasm.call("kept", "fill", 1024, 60_000)
    wasm.call(warm, "fill", 1024, 60_000)
    wasm.tick()
    assert before + 100_000 < host.account("wasm").native_bytes < before + 4 * MIB
    assert wasm.trim(1) > 50_000
    found = wasm.statistics()
    assert (found.pool.idle, found.modules["kept"].idle) == (0, 1)
    assert wasm.trim(1) > 50_000
    assert wasm.statistics().modules["kept"].idle == 0
    assert wasm.trim(1) == 0
    assert wasm.call("kept", "count") == 1
    with wasm.session("kept") as session:
        assert session.read(1024, 60_000) == b"\1" * 60_000


UNLOAD: Final = """
import json, sys, threading
from pathlib import Path
from weighbridge.isolation import IsolatedHost

def reservations():
    lines = (line.split("-", 1) for line in Path("/proc/self/maps").read_text().splitlines())
    return sum(int(rest.split(" ", 1)[0], 16) - int(begin, 16) > 1 << 31 for begin, rest in lines)

module = Path(sys.argv[1]).read_bytes()
host = IsolatedHost()
host.allow("wasm")
for _ in range(2):
    host.load("wasm")
    wasm = host.capabilities["wasm"]
    module_id = wasm.register(module, functions={"env.note": print})
    threads = [threading.Thread(target=wasm.call, args=(module_id, "fill", 0, 60_000)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        wasm.call(module_id, "beyond")
    except Exception as error:
        error.__traceback__ = None
    wasm.call(module_id, "add", 1, 2)  # the threads may have shared one instance, which the trap has closed
    before = reservations()
    del wasm, threads, thread
    receipt = host.unload("wasm")
    after = reservations()
print(json.dumps({
    "state": receipt.state, "survivors": [one.name for one in receipt.survivors], "failures": receipt.failures,
    "libraries": [Path(one.path).name for one in receipt.libraries_kept], "before": before, "after": after,
}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="what is mapped is read from /proc")
def test_unloading_gives_all_of_it_back_but_the_library(tmp_path: Path) -> None:
    """Nothing of the plugin survives; the receipt names the library of wasmtime, which Python cannot close."""
    (tmp_path / "module.wasm").write_bytes(MODULE)
    command = [sys.executable, "-c", UNLOAD, str(tmp_path / "module.wasm")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("before") > 0
    libraries = ["_libwasmtime.so"]
    assert found == {"state": "unloaded", "survivors": [], "failures": [], "libraries": libraries, "after": 0}


OTHER = """
from weighbridge_hookspecs import hookimpl

class Plugin:
    def __init__(self, context):
        self.context = context

    @hookimpl
    def weighbridge_activate(self):
        wasm = self.context.capabilities["wasm"]
        wasm.register(MODULE, name="others", functions={"env.note": self.note}, owner=self.context.name)

    def note(self, number):
        pass
"""


def test_modules_of_a_plugin_leave_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here holds its functions, so it is unloaded whole."""
    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    fabricate.write_distribution(tmp_path / "site", "guest", OTHER.replace("MODULE", repr(MODULE)))
    with isolation.IsolatedHost(meter="process") as host:
        host.allow("wasm", "guest")
        host.load("wasm")
        host.load("guest")
        wasm = host.capabilities["wasm"]
        assert wasm.call("others", "count") == 1
        receipt = host.unload("guest")
        assert (receipt.state, receipt.survivors) == ("unloaded", ())
        with pytest.raises(UnknownModule):
            wasm.call("others", "count")


def test_an_application_that_forgets_a_module_is_not_kept_alive(wasm: Any) -> None:
    """Its functions go with the registration."""

    class Application:
        def note(self, number: int) -> None:
            pass

    application = Application()
    watch = weakref.ref(application)
    module_id = wasm.register(MODULE, functions={"env.note": application.note})
    wasm.call(module_id, "note", 1)
    wasm.unregister(module_id)
    del application
    gc.collect()
    assert watch() is None


# --- scaling ----------------------------------------------------------------------------------------------------------


def test_the_host_sees_a_scalable_subsystem(host: Any) -> None:
    """Its limits, what it does, and whether it takes more."""
    host.load("wasm")
    wasm = host.capabilities["wasm"]
    [subsystem] = host.hook.weighbridge_scalable()
    module_id = wasm.register(MODULE, functions=FUNCTIONS)
    subsystem.reconfigure(ScalingLimits(max_concurrent_operations=1, max_waiting=0, wait_seconds=0.2))
    limits = subsystem.limits
    assert (limits.max_concurrent_operations, limits.max_waiting, limits.wait_seconds) == (1, 0, 0.2)
    with wasm.session(module_id):
        assert subsystem.metrics().running == 1
        assert not subsystem.backpressure().accepting
        with ThreadPoolExecutor(1) as others, pytest.raises(Saturated):
            others.submit(wasm.call, module_id, "add", 1, 2).result()
    assert subsystem.backpressure().accepting
    metrics = subsystem.metrics()
    assert (metrics.running, metrics.waiting, metrics.completed, metrics.rejected) == (0, 0, 1, 1)
    with pytest.raises(ConfigurationError):
        subsystem.reconfigure(ScalingLimits(max_concurrent_operations=0))
    with pytest.raises(ConfigurationError):
        subsystem.reconfigure(ScalingLimits(max_concurrent_operations=1, wait_seconds=-1.0))


def test_it_keeps_to_its_manifest() -> None:
    """The hooks that it implements, the capability that it provides, and the memory that it declares."""
    with isolation.IsolatedHost() as host:
        host.allow("wasm")
        account = host.load("wasm")
        manifest = host.candidate("wasm").manifest
        assert set(manifest.hooks) == set(host.implemented("wasm"))
        assert set(manifest.provides) == {one.name for one in host.capabilities.describe()}
        assert account.held_bytes < manifest.load_bytes
        facts = {fact.subject: fact.finding for _, fact in host.examine()}
        assert set(facts) == {"wasm reset", "wasm concurrency"}
        assert facts["wasm reset"] in ("pagemap", "madvise", "copy")


def test_a_thousand_calls_on_eight_threads_are_isolated(wasm: Any) -> None:
    """Each sees a count of one, whoever had the instance before it."""
    module_id = wasm.register(MODULE, functions=FUNCTIONS)
    wrong: list[int] = []

    def work() -> None:
        for _ in range(125):
            if (count := wasm.call(module_id, "count")) != 1:
                wrong.append(count)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = wasm.statistics()
    assert wrong == []
    assert (found.modules[module_id].completed, found.modules[module_id].in_use) == (1000, 0)
    assert found.pool.made == found.pool.idle + sum(found.pool.closed.values())


def test_a_call_that_never_ends_is_ended_from_another_thread(wasm: Any) -> None:
    """As its deadline would end it, long before that comes."""
    module_id = wasm.register(MODULE, functions=FUNCTIONS)
    failures: list[Exception] = []

    def spin() -> None:
        try:
            wasm.call(module_id, "spin", deadline_seconds=600.0)
        except DeadlineExceeded as error:
            failures.append(error)

    endless = threading.Thread(target=spin)
    endless.start()
    while endless.is_alive():  # it may not have begun yet
        wasm.interrupt()
        endless.join(0.05)
    assert len(failures) == 1
    assert wasm.call(module_id, "add", 20, 22) == 42


def test_a_timer_follows_the_load_and_reports(cache: Path) -> None:
    """The limit stays in its range, and another process can read the figures."""
    settings = {"wasm": {"interval_seconds": 0.02}}
    with isolation.IsolatedHost(meter="process", settings=settings) as host:
        host.allow("wasm")
        host.load("wasm")
        wasm = host.capabilities["wasm"]
        wasm.register(MODULE, name="sums", functions=FUNCTIONS)
        until = time.monotonic() + 20
        while wasm.statistics().concurrency.ticks < 5:
            assert time.monotonic() < until
            time.sleep(0.01)
        found = wasm.statistics().concurrency
        assert found.floor <= found.limit <= found.ceiling
        reports = [file for file in (cache / "running-wasm").glob("*.json") if '"sums"' in file.read_text("utf-8")]
        assert len(reports) == 1
        host.unload("wasm")
        assert not reports[0].exists()
