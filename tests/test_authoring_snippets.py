"""The tutorial for authors of plugins, run on the installed lantern."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from weighbridge_hookspecs import ReleaseRequest

from weighbridge.isolation import IsolatedHost
from weighbridge.testing import AssertUnloadsClean


@pytest.fixture(autouse=True)
def _like_a_fresh_machine(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("WEIGHBRIDGE_CEILING", raising=False)
    monkeypatch.delenv("WEIGHBRIDGE_DISABLED_PLUGINS", raising=False)
    sys.modules.pop("weighbridge_lantern", None)  # a module that was imported before the load is not the load's
    yield
    sys.modules.pop("weighbridge_lantern", None)


# snippet: alone
def test_lantern_forgets_old_readings() -> None:
    """The plugin is an object like any other: a test may give it a context of its own."""
    from weighbridge_lantern import Lantern

    context: Any = SimpleNamespace(
        log=logging.getLogger("test"),
        settings={"keep": 10},
        track=lambda obj: obj,
        every=lambda seconds, call, name=None: None,
    )
    lantern = Lantern(context)
    lantern.history.look()
    lantern.history.look()
    assert lantern.weighbridge_release_memory(ReleaseRequest(bytes=1)) > 0
    assert len(lantern.history) == 1


# end snippet


# snippet: hosted
def test_lantern_offers_its_history(weighbridge_host: IsolatedHost) -> None:
    """A host that finds the lantern and nothing else loads it, and lends it what it asks for."""
    weighbridge_host.allow("lantern")
    account = weighbridge_host.load("lantern")
    assert account.leases == {"capability": 1, "log": 1, "timer": 1}
    assert len(weighbridge_host.capabilities["machine-load"]) >= 1


def test_lantern_leaves_nothing_behind(assert_unloads_clean: AssertUnloadsClean) -> None:
    """Loaded and unloaded again and again, the lantern leaves no object, no thread and no open file."""
    assert_unloads_clean("lantern")


# end snippet
