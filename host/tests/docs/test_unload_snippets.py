"""What the tutorial on embedding says about the ways to unload a plugin, run."""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from weighbridge_hookspecs import Event, UnloadRefused, hookimpl, hookspec

from weighbridge import Host
from weighbridge.testing import TemporaryPlugin

log = logging.getLogger("harbour")
HERE = Path(__file__).parent
PUTTING = """
import harbour

def price(tonnes):
    return 0.0

class Plugin:
    def __init__(self, context):
        harbour.night_price = price
"""
SAILING = """
from weighbridge_hookspecs import hookimpl

class Plugin:
    def __init__(self, context):
        pass

    @hookimpl
    def harbour_sail(self, tide):
        return self.sail(tide)

    async def sail(self, tide):
        await tide.wait()
        return "home"
"""


RAISING = """
from weighbridge_hookspecs import hookimpl

class Plugin:
    def __init__(self, context):
        pass

    @hookimpl
    def harbour_sail(self, tide):
        raise ValueError("a leak")
"""


class SailingSpecs:
    @hookspec(firstresult=True)
    def harbour_sail(self, tide: asyncio.Event) -> Any:
        """Sail when the tide comes."""


@pytest.fixture(autouse=True)
def _like_a_fresh_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("WEIGHBRIDGE_CEILING", raising=False)
    monkeypatch.delenv("WEIGHBRIDGE_DISABLED_PLUGINS", raising=False)


@pytest.fixture
def install(temporary_plugin: TemporaryPlugin) -> TemporaryPlugin:
    temporary_plugin("crane", (HERE / "sample_crane.py").read_text(encoding="utf-8"), attribute="Crane")
    return temporary_plugin


@pytest.fixture
def harbour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module of the application's."""
    (tmp_path / "harbour.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("harbour")
    del sys.modules["harbour"]


def test_ties(install: TemporaryPlugin) -> None:
    """A receipt names what held the plugin, where, and what was done about it."""
    install("ear", (HERE / "sample_ear.py").read_text(encoding="utf-8"), attribute="Ear")
    with Host() as host:
        host.load("ear")
        # snippet: ties
        receipt = host.unload("ear")
        assert receipt.state == "unloaded"
        [finding] = receipt.ties
        assert finding.tie == "logging handler"
        assert finding.place.startswith("logging.root.handlers[")
        assert finding.held == "weighbridge_ear.Drum"
        assert finding.outcome == "cut"
        # end snippet


def test_cut(install: TemporaryPlugin, harbour: ModuleType) -> None:
    """What may be the application's own doing is left, unless it is asked for."""
    install("night", PUTTING)
    with Host() as host:
        host.load("night")
        # snippet: cut
        receipt = host.unload("night")  # cut="safe"
        assert [(one.place, one.outcome) for one in receipt.ties] == [("harbour.night_price", "left")]
        assert receipt.state == "stranded"

        host.load("night")
        receipt = host.unload("night", cut="all")
        assert [(one.place, one.outcome) for one in receipt.ties] == [("harbour.night_price", "cut")]
        assert receipt.state == "unloaded"
        # end snippet
        assert not hasattr(harbour, "night_price")


def test_verify(install: TemporaryPlugin) -> None:
    """The less is proven, the less it costs."""
    with Host() as host:
        host.load("crane")
        # snippet: verify
        receipt = host.unload("crane", verify="none")  # quick, and proves nothing
        assert (receipt.state, receipt.watched, receipt.collections) == ("unloaded", 0, 0)

        host.load("crane")
        receipt = host.unload("crane", verify="weakref")  # counts what is left, and does not ask what holds it
        assert (receipt.state, receipt.survivors, receipt.collections) == ("unloaded", (), 1)
        assert receipt.watched > 0
        # end snippet


def test_async(install: TemporaryPlugin) -> None:
    """A call that is under way in the event loop comes to its end while the unload waits for it."""
    install("yawl", SAILING)

    async def main(host: Host) -> None:
        tide = asyncio.Event()
        voyage = asyncio.create_task(host.hook.harbour_sail(tide=tide))
        await asyncio.sleep(0)  # it is under way
        # snippet: async
        unload = asyncio.create_task(host.unload_async("yawl", reason="the season is over"))
        tide.set()  # the loop runs on, so the call that is under way comes home
        assert await voyage == "home"
        receipt = await unload
        assert receipt.state == "unloaded"
        # end snippet

    with Host() as host:
        host.add_hookspecs(SailingSpecs)
        host.load("yawl")
        asyncio.run(main(host))


def test_veto(install: TemporaryPlugin, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever is registered may object, and nothing has changed then."""

    # snippet: veto
    class Harbourmaster:
        @hookimpl
        def weighbridge_veto_unload(self, plugin: str, reason: str) -> str | None:
            return "a ship is alongside" if plugin == "crane" else None

    with Host() as host:
        host.register("harbourmaster", Harbourmaster())
        host.load("crane")
        try:
            host.unload("crane")
        except UnloadRefused as refusal:
            log.warning("%s", refusal)
        assert host.account("crane").state == "active"
    # end snippet
    assert "crane: may not be unloaded now: a ship is alongside (says 'harbourmaster')" in caplog.text


def test_dismissal(install: TemporaryPlugin) -> None:
    """A plugin that failed too often is out of the calls, keeps what it holds, and is unloaded like any other."""
    install("leaky", RAISING)
    dismissed = threading.Event()

    # snippet: dismissal
    class Bell:
        @hookimpl
        def weighbridge_event(self, event: Event) -> None:
            if event.state == "failed":
                dismissed.set()

    with Host(on_hook_error="contain", hook_error_limit=2, hook_error_window_seconds=60.0) as host:
        host.add_hookspecs(SailingSpecs)
        host.register("bell", Bell())
        host.load("leaky")
        for _ in range(2):
            assert host.hook.harbour_sail(tide=None) is None  # it raised, and nobody else answered
        dismissed.wait()
        assert host.account("leaky").state == "failed"
        receipt = host.unload("leaky")
        assert receipt.state == "unloaded"
    # end snippet
