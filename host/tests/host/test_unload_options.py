"""What an unload may be told: what to cut, what to prove, how long to wait, and in which thread."""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from weighbridge_hookspecs import ConfigurationError, Event, UnloadTimeout, hookimpl, hookspec

from weighbridge.isolation import IsolatedHost
from weighbridge.testing import TemporaryPlugin

WAITING = """
from weighbridge_hookspecs import hookimpl

class Plugin:
    def __init__(self, context):
        pass

    @hookimpl
    def wait(self, signal):
        return self.until(signal)

    async def until(self, signal):
        await signal.wait()
        return "done"
"""
GIVING = """
import application

class Plugin:
    def __init__(self, context):
        application.given.append(self)
        application.thing = Thing

class Thing:
    pass
"""


class Specs:
    @hookspec(firstresult=True)
    def wait(self, signal: asyncio.Event) -> Any:
        """Wait for a signal."""


class Diary:
    """Tells when a plugin has come to a state."""

    def __init__(self, state: str) -> None:
        self._state = state
        self.reached = threading.Event()

    @hookimpl
    def weighbridge_event(self, event: Event) -> None:
        if event.state == self._state:
            self.reached.set()


@pytest.fixture
def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module that is nobody's plugin."""
    (tmp_path / "application.py").write_text("given = []\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("application")
    del sys.modules["application"]


@pytest.fixture
def host(weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> IsolatedHost:
    """It has loaded a plugin with a hook that returns a coroutine."""
    temporary_plugin("waiting", WAITING)
    weighbridge_host.add_hookspecs(Specs)
    weighbridge_host.allow("waiting")
    weighbridge_host.load("waiting")
    return weighbridge_host


# -- while an event loop runs ------------------------------------------------------------------------------------------


async def under_way(host: IsolatedHost, signal: asyncio.Event) -> asyncio.Task[str]:
    """A call of the plugin's hook that waits for the signal."""
    call = asyncio.create_task(host.hook.wait(signal=signal))
    await asyncio.sleep(0)
    return call


async def until(happened: threading.Event) -> None:
    """Wait for what another thread does, while the loop runs on."""
    await asyncio.to_thread(happened.wait)


def test_an_awaited_unload_lets_calls_in_the_loop_come_to_their_end(host: IsolatedHost) -> None:
    """It waits in a thread until the coroutine has ended, and gives the receipt."""
    draining = Diary("draining")
    host.register("diary", draining)

    async def main() -> None:
        signal = asyncio.Event()
        call = await under_way(host, signal)
        unload = asyncio.create_task(host.unload_async("waiting", reason="it is time"))
        await until(draining.reached)
        assert not unload.done()
        signal.set()
        assert await call == "done"
        receipt = await unload
        assert (receipt.state, receipt.reason, receipt.failures) == ("unloaded", "it is time", ())

    asyncio.run(main())


def test_an_unload_that_is_not_awaited_stops_the_loop_and_so_cannot_end(host: IsolatedHost) -> None:
    """Nobody runs the coroutine meanwhile: the deadline passes, and the plugin is active again."""

    async def main() -> None:
        signal = asyncio.Event()
        call = await under_way(host, signal)
        signal.set()
        with pytest.raises(UnloadTimeout) as caught:
            host.unload("waiting", deadline_seconds=0.05)
        assert "coroutine Plugin.until at " in caught.value.inside[0]
        assert host.account("waiting").state == "active"
        assert await call == "done"

    asyncio.run(main())


def test_an_awaited_unload_takes_the_same_options_and_raises_the_same_errors(host: IsolatedHost) -> None:
    """A deadline that passes, a setting that makes no sense, and an option that there is not."""

    async def main() -> None:
        signal = asyncio.Event()
        call = await under_way(host, signal)
        with pytest.raises(UnloadTimeout):
            await host.unload_async("waiting", deadline_seconds=0.05)
        with pytest.raises(ConfigurationError, match="verify='somehow' makes no sense"):
            await host.unload_async("waiting", verify="somehow")
        with pytest.raises(TypeError, match="haste"):
            await host.unload_async("waiting", haste=True)
        signal.set()
        assert await call == "done"
        receipt = await host.unload_async("waiting", verify="weakref", cut="none")
        assert (receipt.state, receipt.verify, receipt.ties) == ("unloaded", "weakref", ())

    asyncio.run(main())


def test_whoever_gives_up_waiting_does_not_break_the_unload_off(host: IsolatedHost) -> None:
    """A cancelled ``await`` ends at once; the thread goes on, and the plugin is gone in the end."""
    draining, unloaded = Diary("draining"), Diary("unloaded")
    host.register("draining", draining)
    host.register("unloaded", unloaded)

    async def main() -> None:
        signal = asyncio.Event()
        call = await under_way(host, signal)
        unload = asyncio.create_task(host.unload_async("waiting"))
        await until(draining.reached)
        unload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await unload
        signal.set()
        assert await call == "done"
        await until(unloaded.reached)

    asyncio.run(main())
    assert {one.name: one.state for one in host.plugins()}["waiting"] == "unloaded"


# -- what is cut, and what is proven -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("cut", "outcome"), [("safe", "left"), ("all", "cut"), ("none", "found")])
def test_what_may_be_the_applications_own_is_cut_only_with_all(
    cut: Any,
    outcome: str,
    weighbridge_host: IsolatedHost,
    temporary_plugin: TemporaryPlugin,
    application: ModuleType,
) -> None:
    """It is named whatever was wished."""
    temporary_plugin("giving", GIVING)
    weighbridge_host.load("giving")
    receipt = weighbridge_host.unload("giving", cut=cut)
    [finding] = [one for one in receipt.ties if one.place == "application.thing"]
    assert (finding.tie, finding.outcome) == ("module attribute", outcome)
    assert hasattr(application, "thing") is (outcome != "cut")


@pytest.mark.parametrize(
    ("verify", "state", "chains"),
    [("full", "stranded", True), ("weakref", "stranded", False), ("none", "unloaded", False)],
)
def test_what_is_not_looked_for_is_not_found(
    verify: Any,
    state: str,
    chains: bool,
    weighbridge_host: IsolatedHost,
    temporary_plugin: TemporaryPlugin,
    application: ModuleType,
) -> None:
    """Without any proof a plugin that is held passes for unloaded; the receipt says how it was proven."""
    temporary_plugin("giving", GIVING)
    weighbridge_host.load("giving")
    receipt = weighbridge_host.unload("giving", verify=verify, cut="none")
    assert (receipt.verify, receipt.state) == (verify, state)
    assert (receipt.collections > 0) is (verify != "none")
    assert bool(receipt.survivors) is (state == "stranded")
    assert any(one.chain for one in receipt.survivors) is chains


def test_the_hosts_deadline_holds_where_none_is_given(temporary_plugin: TemporaryPlugin) -> None:
    """It is a setting of the host, and an argument goes before it."""
    temporary_plugin("waiting", WAITING)

    async def main(host: IsolatedHost) -> None:
        signal = asyncio.Event()
        call = await under_way(host, signal)
        with pytest.raises(UnloadTimeout, match=r"after 0\.05 s"):
            host.unload("waiting")
        with pytest.raises(UnloadTimeout, match=r"after 0\.01 s"):
            host.unload("waiting", deadline_seconds=0.01)
        signal.set()
        await call

    with IsolatedHost(deadline_seconds=0.05) as host:
        host.add_hookspecs(Specs)
        host.allow("waiting")
        host.load("waiting")
        asyncio.run(main(host))
