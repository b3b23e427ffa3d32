"""Modules that come, change and go while calls run: these tests need ``weighbridge[testing]``."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import wasmtime
from weighbridge_hookspecs import ConfigurationError, ContextClosed, ScalingLimits, UnknownModule

isolation = pytest.importorskip(
    "weighbridge.isolation", reason="pip install 'weighbridge[testing]' to test the plugin in a host"
)

SECONDS: Final = 30


def module(text: str) -> bytes:
    """A module of its text."""
    return bytes(wasmtime.wat2wasm(text))


ONE: Final = module('(module (func (export "which") (result i32) i32.const 1))')
TWO: Final = module('(module (func (export "which") (result i32) i32.const 2))')
ASKS: Final = module(
    """
    (module (import "host" "ask" (func $ask))
      (memory (export "memory") 1)
      (func (export "which") (result i32) call $ask i32.const 3)
      (func (export "spin") (loop br 0)))
    """
)
ASKS_AT_ITS_START: Final = module(
    """
    (module (import "host" "ask" (func $ask))
      (func $start call $ask)
      (start $start)
      (func (export "which") (result i32) i32.const 4))
    """
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is compiled yet, and nothing imported: what is imported already, a load does not bring in."""
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "weighbridge_wasm"]:
        monkeypatch.delitem(sys.modules, name)


@contextmanager
def hosting(folder: Path, **settings: Any) -> Iterator[Any]:
    """The capability in a host with a store."""
    host = isolation.IsolatedHost(meter="process", store=folder / "store.sqlite3", settings={"wasm": settings})
    with host:
        host.allow("wasm")
        host.load("wasm")
        yield host.capabilities["wasm"]


@pytest.fixture
def wasm(tmp_path: Path) -> Iterator[Any]:
    """The capability."""
    with hosting(tmp_path, wait_seconds=0.2) as scaling:
        yield scaling


class Pause:
    """A host function that holds its first caller up, until it may go on."""

    def __init__(self) -> None:
        self.has_come, self.may_go = threading.Event(), threading.Event()

    def __call__(self) -> None:
        if not self.has_come.is_set():
            self.has_come.set()
            assert self.may_go.wait(SECONDS)


class Aside:
    """Something that is done in another thread, with what came of it."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self.outcome: object = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.outcome = self._work()
        except BaseException as error:
            self.outcome = error

    def ended(self) -> object:
        """Wait for it; what it gave or raised."""
        self.thread.join(SECONDS)
        assert not self.thread.is_alive()
        return self.outcome


def until(has_happened: Callable[[], bool]) -> None:
    """Wait for something that nobody tells of."""
    end = time.monotonic() + SECONDS
    while not has_happened():
        assert time.monotonic() < end
        time.sleep(0.001)


# --- going ------------------------------------------------------------------------------------------------------------


def test_who_takes_a_name_over_gets_no_instance_of_the_module_before(wasm: Any) -> None:
    """Not even of one that was being made when its module was unregistered."""
    pause = Pause()
    wasm.register(ASKS_AT_ITS_START, name="shared", functions={"host.ask": pause})
    before = Aside(lambda: wasm.call("shared", "which"))
    assert pause.has_come.wait(SECONDS)
    wasm.unregister("shared")
    wasm.register(ONE, name="shared")
    pause.may_go.set()
    assert before.ended() == 4
    assert [wasm.call("shared", "which") for _ in range(3)] == [1, 1, 1]
    assert wasm.statistics().pool.in_use == 0


def test_what_runs_ends_when_its_module_is_unregistered(wasm: Any) -> None:
    """It may call its host functions still, and its instance is closed."""
    pause = Pause()
    wasm.register(ASKS, name="going", functions={"host.ask": pause})
    running = Aside(lambda: wasm.call("going", "which"))
    assert pause.has_come.wait(SECONDS)
    with wasm.session("going") as session:
        wasm.unregister("going")
        assert session.call("which") == 3
    pause.may_go.set()
    assert running.ended() == 3
    found = wasm.statistics().pool
    assert (found.idle, found.in_use) == (0, 0)


def test_who_waits_for_a_module_that_goes_is_told_so(tmp_path: Path) -> None:
    """Whether it waits for the one instance of a module that keeps its state, or has not entered its session yet."""
    with hosting(tmp_path, wait_seconds=SECONDS) as wasm:
        pause = Pause()
        wasm.register(ASKS, {"keep_state": True}, name="kept", functions={"host.ask": pause})
        wasm.register(ONE, name="other")
        late = wasm.session("other")
        running = Aside(lambda: wasm.call("kept", "which"))
        assert pause.has_come.wait(SECONDS)
        door = wasm._registry.find("kept").supply.door
        waiting = Aside(lambda: wasm.call("kept", "which"))
        until(lambda: door.statistics().waiting == 1)
        leaving = Aside(lambda: wasm.unregister("kept"))
        until(lambda: door.statistics().waiting == 2)
        pause.may_go.set()
        assert (running.ended(), leaving.ended()) == (3, None)
        assert isinstance(waiting.ended(), UnknownModule)
        wasm.unregister("other")
        with pytest.raises(UnknownModule, match="unregistered meanwhile"), late:
            pass


def test_a_state_in_use_hinders_no_other_module_from_leaving(wasm: Any) -> None:
    """What could not be kept is told at the end, and its instance is closed when its call has ended."""
    pause = Pause()
    wasm.register(ASKS, {"keep_state": True}, name="busy", functions={"host.ask": pause}, owner="guest")
    wasm.register(ONE, name="idle", owner="guest")
    running = Aside(lambda: wasm.call("busy", "which"))
    assert pause.has_come.wait(SECONDS)
    with pytest.raises(ExceptionGroup, match="could not be kept"):
        wasm.unregister_of("guest")
    assert wasm.statistics().modules == {}
    pause.may_go.set()
    assert running.ended() == 3


def test_a_module_of_two_plugins_stays_until_both_have_left(wasm: Any) -> None:
    """With host functions it leaves with the first, for they are the plugin's."""
    for owner in ("first", "second"):
        wasm.register(ONE, name="both", owner=owner)
        wasm.register(ASKS, name="asks", functions={"host.ask": print}, owner=owner)
    assert wasm.unregister_of("first") == 2
    assert wasm.call("both", "which") == 1
    assert wasm.statistics().modules["both"].owner == "second"
    with pytest.raises(UnknownModule):
        wasm.call("asks", "which")
    assert wasm.unregister_of("second") == 1
    with pytest.raises(UnknownModule):
        wasm.call("both", "which")


def test_a_registration_ends_with_the_plugin_that_made_it(wasm: Any) -> None:
    """Whose it was is said by whoever unregisters."""
    for owner in ("first", "second"):
        wasm.register(ONE, name="both", owner=owner)
    wasm.unregister("both", owner="first")
    assert wasm.unregister_of("first") == 0
    assert wasm.call("both", "which") == 1


def test_functions_are_compared_as_they_were_registered(wasm: Any) -> None:
    """What is done to the table afterwards changes nothing."""
    functions = {"host.ask": print}
    wasm.register(ASKS, name="asks", functions=functions)
    functions["host.ask"] = sorted  # type: ignore[assignment]
    with pytest.raises(ConfigurationError, match="other functions"):
        wasm.register(ASKS, name="asks", functions=functions)


# --- while others wait ------------------------------------------------------------------------------------------------


def test_a_slow_registration_holds_nobody_up(wasm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other modules are called, measured, changed and unregistered meanwhile."""
    wasm.register(ONE, name="ready")
    pause = Pause()
    compiled = type(wasm._cache).module

    def slowly(self: Any, *arguments: Any, **named: Any) -> Any:
        pause()
        return compiled(self, *arguments, **named)

    monkeypatch.setattr(type(wasm._cache), "module", slowly)
    slow = Aside(lambda: wasm.register(TWO, name="slow", owner="guest"))
    assert pause.has_come.wait(SECONDS)
    same = Aside(lambda: wasm.register(TWO, name="slow", owner="guest"))

    def others() -> int:
        wasm.configure("ready", max_pages=2)
        wasm.trim(1)
        assert wasm.resident_bytes() > 0
        wasm.register(TWO, name="quick")
        wasm.unregister("quick")
        assert wasm.unregister_of("nobody") == 0
        found: int = wasm.call("ready", "which")
        return found + len(wasm.statistics().modules)

    assert Aside(others).ended() == 2
    leaving = Aside(lambda: wasm.unregister_of("guest"))
    pause.may_go.set()
    assert (slow.ended(), same.ended()) == ("slow", "slow")
    leaving.ended()
    wasm.unregister_of("guest")
    assert list(wasm.statistics().modules) == ["ready"]


def test_a_host_function_may_look_while_its_module_is_unregistered(tmp_path: Path) -> None:
    """Who waits for its end holds nothing that it wants."""
    with hosting(tmp_path, wait_seconds=SECONDS) as wasm:
        unregister_while_it_runs(wasm)


def unregister_while_it_runs(wasm: Any) -> None:
    """Unregister a module whose host function asks for statistics."""
    waits = threading.Event()

    def look() -> None:
        assert waits.wait(SECONDS)
        until(lambda: supply.door.statistics().waiting == 1)
        assert wasm.resident_bytes() >= 0
        assert wasm.statistics().modules["kept"].in_use == 1

    wasm.register(ASKS, {"keep_state": True}, name="kept", functions={"host.ask": look})
    supply = wasm._registry.find("kept").supply
    settle = supply.settle

    def settling(wait_seconds: float) -> None:
        waits.set()
        settle(wait_seconds)

    supply.settle = settling
    running = Aside(lambda: wasm.call("kept", "which"))
    until(lambda: supply.is_lent)
    wasm.unregister("kept")
    assert running.ended() == 3


def test_an_instance_is_not_measured_while_it_is_used_or_closed(wasm: Any) -> None:
    """Its memory may go at any moment: to look there would end the process."""
    wasm.register(ASKS, {"keep_state": True}, name="kept", functions={"host.ask": lambda: None})
    interval = sys.getswitchinterval()
    over = threading.Event()

    def measure() -> int:
        while not over.is_set():
            wasm.resident_bytes()
        return 0

    sys.setswitchinterval(1e-5)
    try:
        watchers = [Aside(measure) for _ in range(2)]
        for _ in range(150):
            assert wasm.call("kept", "which") == 3
            wasm.suspend("kept")
    finally:
        over.set()
        sys.setswitchinterval(interval)
    assert [watcher.ended() for watcher in watchers] == [0, 0]


def test_a_host_function_that_calls_modules_waits_for_no_place(wasm: Any) -> None:
    """Those who had all places would wait for each other; a session and a call within it have one."""
    wasm.reconfigure(ScalingLimits(max_concurrent_operations=1))
    wasm.register(ONE, name="inner")
    found: list[int] = []

    def ask() -> None:
        with wasm.session("inner") as session:
            found.append(session.call("which"))
        found.append(wasm.call("inner", "which"))

    wasm.register(ASKS, name="outer", functions={"host.ask": ask})
    with wasm.session("inner") as session:
        assert wasm.call("outer", "which") == 3
        found.append(session.call("which"))
    assert found == [1, 1, 1]
    assert wasm.metrics().running == 0
    assert wasm._here.keys == []


def test_a_session_that_changes_threads_leaves_its_place(wasm: Any) -> None:
    """The thread that entered it has none afterwards."""
    wasm.register(ONE, name="one")
    session = wasm.session("one")
    entered = session.__enter__()
    assert Aside(lambda: session.__exit__(None, None, None)).ended() is None
    assert wasm._here.keys == []
    assert wasm.metrics().running == 0
    with pytest.raises(RuntimeError, match="entered before"), session:
        pass
    with pytest.raises(RuntimeError, match="no session"):
        entered.call("which")


def test_who_would_wait_for_itself_is_told_so(wasm: Any) -> None:
    """A host function has a caller, and a session its own calls."""
    failures: list[str] = []

    def ask() -> None:
        with pytest.raises(RuntimeError, match="this thread has already") as refused:
            wasm.call("kept", "which")
        failures.append(str(refused.value))

    wasm.register(ASKS, {"keep_state": True}, name="kept", functions={"host.ask": ask})
    assert wasm.call("kept", "which") == 3
    with wasm.session("kept"), pytest.raises(RuntimeError, match="this thread has already"):
        wasm.call("kept", "which")
    assert len(failures) == 1


# --- after the end ----------------------------------------------------------------------------------------------------


def test_a_session_that_outlives_the_plugin_runs_nothing_without_a_deadline(wasm: Any) -> None:
    """Nothing would end its calls any more, so that they do not begin."""
    wasm.register(ASKS, name="asks", functions={"host.ask": lambda: None})
    with wasm.session("asks") as session:
        wasm.close()
        with pytest.raises(ContextClosed, match="deadline"):
            session.call("spin", deadline_seconds=0.1)
    with pytest.raises(ContextClosed, match="registers no modules"):
        wasm.register(ONE)


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_what_was_kept_gives_no_more_than_the_operator_allows(tmp_path: Path) -> None:
    """A change of times when more was allowed is cut down to what is allowed now."""
    for allowed in (4096, 128):
        with hosting(tmp_path, max_pages_allowed=allowed, module={"max_pages": 64}) as wasm:
            wasm.register(ASKS, name="large", functions={"host.ask": lambda: None})
            if allowed == 4096:
                wasm.configure("large", max_pages=4000)
            assert wasm.statistics().modules["large"].config.max_pages == min(4000, allowed)


def test_a_module_that_is_never_to_be_reset_gets_none_that_was(wasm: Any) -> None:
    """Those that are idle when its configuration changes are closed."""
    module_id = wasm.register(ONE)
    wasm.call(module_id, "which")
    before = wasm.statistics().pool.reused
    wasm.configure(module_id, reset="never")
    assert wasm.call(module_id, "which") == 1
    assert wasm.statistics().pool.reused == before
    wasm.configure(module_id, reset="auto")
    assert [wasm.call(module_id, "which"), wasm.call(module_id, "which")] == [1, 1]
    assert wasm.statistics().pool.reused == before + 1


def test_the_start_of_an_instance_keeps_to_the_deadline_of_its_call(wasm: Any) -> None:
    """That of the configuration, which is longer, has no say."""
    endless = module('(module (func $start (loop br 0)) (start $start) (func (export "which")))')
    module_id = wasm.register(endless, {"deadline_seconds": None})
    error = Aside(lambda: wasm.call(module_id, "which", deadline_seconds=0.05)).ended()
    assert (type(error).__name__, getattr(error, "deadline_seconds", None)) == ("DeadlineExceeded", 0.05)


def test_what_the_start_was_told_reaches_no_other_call(wasm: Any) -> None:
    """A module whose start asks the host has a fresh instance for each use, and it is said why."""
    asks = module(
        """
        (module (import "host" "who" (func $who (result i32)))
          (global $told (mut i32) (i32.const 0))
          (func $start (global.set $told (call $who)))
          (start $start)
          (func (export "told") (result i32) global.get $told))
        """
    )
    numbers = iter(range(1, 10))
    module_id = wasm.register(asks, functions={"host.who": lambda: next(numbers)})
    assert [wasm.call(module_id, "told") for _ in range(3)] == [1, 2, 3]
    assert wasm.statistics().modules[module_id].obstacles == ("its start calls the host, and keeps what it was told",)


def test_bounds_that_make_no_sense_change_nothing(wasm: Any) -> None:
    """Not even those that would have."""
    before = wasm.limits
    with pytest.raises(ConfigurationError):
        wasm.reconfigure(ScalingLimits(max_concurrent_operations=0, max_waiting=5))
    with pytest.raises(ConfigurationError):
        wasm.reconfigure(ScalingLimits(max_concurrent_operations=3, max_waiting=-1))
    assert wasm.limits == before


# --- state and secrets ------------------------------------------------------------------------------------------------


def test_what_a_reactor_has_cleared_stays_cleared(wasm: Any) -> None:
    """A page that ``_initialize`` fills is part of a state when it is zeros, too."""
    reactor = module(
        """
        (module (memory (export "memory") 1)
          (func (export "_initialize") (i32.store (i32.const 8192) (i32.const 7)))
          (func (export "clear") (i32.store (i32.const 8192) (i32.const 0)))
          (func (export "get") (result i32) (i32.load (i32.const 8192))))
        """
    )
    module_id = wasm.register(reactor, {"keep_state": True})
    assert wasm.call(module_id, "get") == 7
    wasm.call(module_id, "clear")
    wasm.suspend(module_id)
    assert wasm.call(module_id, "get") == 0


def test_statistics_show_nothing_of_an_environment(wasm: Any) -> None:
    """Values may be secrets."""
    module_id = wasm.register(ONE, {"wasi": {"environment": {"TOKEN": "hidden"}}})
    found = wasm.statistics().modules[module_id]
    assert "hidden" not in repr(found)
    assert "environment" in repr(found)
