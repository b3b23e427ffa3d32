"""Closing a host: everything is unloaded, whatever goes wrong on the way."""

from __future__ import annotations

import gc
import importlib
import sys
import threading
import weakref
from types import ModuleType
from typing import Any

import pytest
from weighbridge_hookspecs import CleanupFailed, UnloadTimeout, hookimpl, hookspec

from weighbridge.isolation import IsolatedHost
from weighbridge.lifecycle import unloading
from weighbridge.lifecycle.scales import Scales
from weighbridge.testing import TemporaryPlugin

GOOD = "class Plugin:\n    def __init__(self, context):\n        pass\n"
SULKING = (
    "from weighbridge_hookspecs import hookimpl\n"
    + GOOD
    + "    @hookimpl\n    def weighbridge_deactivate(self):\n        raise OSError('I will not go')\n"
)


class Calls:
    """The application's hook."""

    @hookspec
    def call(self) -> None:
        raise NotImplementedError


@pytest.fixture
def harbour(monkeypatch: pytest.MonkeyPatch) -> Any:
    module: Any = type(sys)("harbour")
    module.inside, module.go = threading.Event(), threading.Event()
    monkeypatch.setitem(sys.modules, "harbour", module)
    return module


def states(host: IsolatedHost) -> dict[str, str]:
    return {one.name: one.state for one in host.plugins()}


def test_everything_is_unloaded_last_loaded_first(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """With a receipt for each; closing again does nothing."""
    for name in ("b", "a"):
        temporary_plugin(name, GOOD)
        weighbridge_host.load(name)
    weighbridge_host.close()
    assert list(weighbridge_host.receipts) == ["a", "b"]
    assert {one.reason for one in weighbridge_host.receipts.values()} == {"the host is closing"}
    weighbridge_host.close()
    assert states(weighbridge_host) == {"a": "unloaded", "b": "unloaded"}


def test_the_end_of_a_with_block_closes(temporary_plugin: TemporaryPlugin) -> None:
    """Also where an exception ends it."""
    temporary_plugin("good", GOOD)
    host = IsolatedHost()
    host.allow("good")

    def fail() -> None:
        with host:
            host.load("good")
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert states(host) == {"good": "unloaded"}


def test_failures_come_as_one_group(weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """Each names its plugin and the step; nobody stays because of another one's failure."""
    temporary_plugin("a", SULKING)
    temporary_plugin("b", GOOD)
    temporary_plugin("c", SULKING.replace("go", "move"), manifest='[plugin]\nrequires = ["a"]\n')
    weighbridge_host.load_all()
    with pytest.raises(ExceptionGroup) as caught:
        weighbridge_host.close()
    assert caught.value.message == "closing the host went wrong"
    assert all(isinstance(one, CleanupFailed) for one in caught.value.exceptions)
    assert [str(one) for one in caught.value.exceptions] == [
        "c: deactivate: OSError: I will not move",
        "a: deactivate: OSError: I will not go",
    ]
    assert states(weighbridge_host) == {"a": "unloaded", "b": "unloaded", "c": "unloaded"}


def test_one_that_cannot_be_left_is_named_and_the_others_go(temporary_plugin: TemporaryPlugin, harbour: Any) -> None:
    """It can be closed again when the call has returned."""
    temporary_plugin(
        "busy",
        "from harbour import go, inside\nfrom weighbridge_hookspecs import hookimpl\n"
        + GOOD
        + "    @hookimpl\n    def call(self):\n        inside.set()\n        go.wait()\n",
    )
    temporary_plugin("idle", GOOD)
    host = IsolatedHost(deadline_seconds=0.01)
    host.allow("busy", "idle")
    host.add_hookspecs(Calls)
    host.load_all()
    caller = threading.Thread(target=host.hook.call)
    caller.start()
    harbour.inside.wait()
    try:
        with pytest.raises(ExceptionGroup) as caught:
            host.close()
    finally:
        harbour.go.set()
        caller.join()
    assert [type(one) for one in caught.value.exceptions] == [UnloadTimeout]
    assert states(host) == {"busy": "active", "idle": "unloaded"}
    host.close()
    assert states(host) == {"busy": "unloaded", "idle": "unloaded"}


def test_a_host_that_is_dropped_with_plugins_says_so(temporary_plugin: TemporaryPlugin) -> None:
    """Nobody else will unload them."""
    for name in ("a", "b"):
        temporary_plugin(name, GOOD)

    def leave_open() -> None:
        host = IsolatedHost()
        host.allow("a", "b")
        host.load_all()
        del host
        gc.collect()

    with pytest.warns(ResourceWarning) as caught:
        leave_open()
    assert [str(one.message) for one in caught] == ["a Host was dropped with plugins loaded: a, b"]


def test_a_host_that_is_dropped_without_plugins_is_silent(temporary_plugin: TemporaryPlugin) -> None:
    """Whether it was closed, or never had any."""
    temporary_plugin("good", GOOD)

    def leave() -> None:
        host = IsolatedHost()
        host.allow("good")
        host.load("good")
        host.unload("good")
        IsolatedHost()

    leave()
    assert gc.collect() >= 0  # a warning would be an error here


@pytest.mark.parametrize("on_hook_error", ["raise", "contain"])
def test_a_host_that_is_dropped_goes_without_the_collector(
    temporary_plugin: TemporaryPlugin, on_hook_error: str
) -> None:
    """Nothing that it made refers to it."""
    temporary_plugin("good", GOOD)
    gc.disable()
    try:
        with IsolatedHost("1 GiB", on_hook_error=on_hook_error) as host:
            host.allow("good")
            host.load("good")
            host.unload("good")
        there = weakref.ref(host)
        del host
        assert there() is None
    finally:
        gc.enable()


def test_what_the_application_registered_outlives_the_plugins(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """It sees the last of them go."""

    class Diary:
        seen: list[str | None] = []  # noqa: RUF012

        @hookimpl
        def weighbridge_event(self, event: Any) -> None:
            self.seen.append(event.state)

    diary = Diary()
    temporary_plugin("good", GOOD)
    weighbridge_host.load("good")
    weighbridge_host.register("diary", diary)
    weighbridge_host.close()
    assert diary.seen == ["draining", "unloaded"]
    assert weighbridge_host.implemented("diary") == ("weighbridge_event",)


def test_without_memory_for_the_ties_everything_is_still_given_back(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is leased comes back first, and may be what is missing."""
    temporary_plugin("good", GOOD)
    weighbridge_host.load("good")
    tried = []

    def fail(name: str, package: str | None = None) -> ModuleType:
        tried.append(name)
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(importlib, "import_module", fail)
        receipt = weighbridge_host.unload("good")
    assert tried == ["..reclaim.ties.catalogue"]
    assert (receipt.state, receipt.failures) == ("unloaded", ())


def test_an_unload_that_breaks_down_does_not_stop_the_others(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows what it was, so it is told as a failure, as text."""
    for name in ("first", "second"):
        temporary_plugin(name, GOOD)
        weighbridge_host.load(name)
    drawn = Scales

    def scales(memory: Any, plugin: Any) -> object:
        if plugin.name == "second":
            raise MemoryError
        return drawn(memory, plugin)

    with monkeypatch.context() as patched:
        patched.setattr(unloading, "Scales", scales)
        with pytest.raises(ExceptionGroup) as caught:
            weighbridge_host.close()
    (problem,) = caught.value.exceptions
    assert str(problem) == "second: MemoryError"
    assert {one.name: one.state for one in weighbridge_host.plugins()} == {"first": "unloaded", "second": "active"}
