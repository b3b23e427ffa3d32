"""The examples on the pages about services, run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from weighbridge_hookspecs import ServiceUnavailable

from weighbridge import Host
from weighbridge.isolation import IsolatedHost
from weighbridge.testing import TemporaryPlugin

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _like_a_fresh_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("WEIGHBRIDGE_CEILING", raising=False)
    monkeypatch.delenv("WEIGHBRIDGE_DISABLED_PLUGINS", raising=False)


@pytest.fixture
def kettle(weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> Any:
    temporary_plugin("kettle", (HERE / "sample_kettle.py").read_text(encoding="utf-8"), attribute="Kettle")
    weighbridge_host.load("kettle")
    return weighbridge_host.capabilities["kettle"]


def until(condition: Callable[[], object]) -> None:
    """Wait; the suite's own time limit ends a wait in vain."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.01)


def test_every_call_is_a_lease(weighbridge_host: IsolatedHost, kettle: Any) -> None:
    """What was lent is on the account, by kind."""
    account = weighbridge_host.account("kettle")
    assert account.leases == {"capability": 1, "charge": 1, "log": 1, "thread": 1, "timer": 1}


def test_charge_is_on_the_account_until_it_is_released(weighbridge_host: IsolatedHost, kettle: Any) -> None:
    """A charge is native memory, under its label."""
    assert weighbridge_host.account("kettle").charges == {"water": 64 * 4096}
    kettle.pour()
    assert weighbridge_host.account("kettle").charges == {}


def test_timer_calls_and_thread_works(kettle: Any) -> None:
    """The timer looks again and again, and the thread takes its jobs."""
    until(lambda: kettle.looks > 1)
    kettle.jobs.put("tea")
    until(lambda: kettle.done == ["tea"])


def test_settings_are_read_only_and_have_defaults(kettle: Any) -> None:
    """A plugin without settings gets an empty mapping."""
    assert kettle.degrees == 100.0
    with pytest.raises(TypeError):
        kettle.context.settings["degrees"] = 80.0


def test_budget_without_a_ceiling_has_no_headroom_to_tell(kettle: Any) -> None:
    """Without a ceiling there is always room."""
    assert kettle.has_room_for(10**12)


def test_capability_of_another_plugin_may_be_missing(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, kettle: Any
) -> None:
    """A plugin asks before it takes, for the other may come and go."""
    assert kettle.pressure() is None
    temporary_plugin("pump", (HERE / "sample_pump.py").read_text(encoding="utf-8"), attribute="Pump")
    weighbridge_host.load("pump")
    assert callable(kettle.pressure())


def test_everything_lent_comes_back(weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """The unload takes back what the plugin did not give back itself."""
    temporary_plugin("kettle", (HERE / "sample_kettle.py").read_text(encoding="utf-8"), attribute="Kettle")
    weighbridge_host.load("kettle")
    receipt = weighbridge_host.unload("kettle")
    assert receipt.leases_revoked == {"capability": 1, "charge": 1, "log": 1, "thread": 1, "timer": 1}
    assert (receipt.state, receipt.survivors, receipt.failures) == ("unloaded", (), ())


def test_service_that_is_not_lent_says_so(kettle: Any) -> None:
    """A service for which the application has to do something raises without that, and the advice says what."""
    with pytest.raises(ServiceUnavailable, match="lends no 'store'") as caught:
        _ = kettle.context.store
    assert caught.value.advice is not None
    assert "Host(store=" in caught.value.advice


def test_settings_of_one_plugin_reach_that_plugin(
    temporary_plugin: TemporaryPlugin, weighbridge_host: IsolatedHost
) -> None:
    """A host gives each plugin its own table."""
    temporary_plugin("kettle", (HERE / "sample_kettle.py").read_text(encoding="utf-8"), attribute="Kettle")
    with Host(settings={"kettle": {"degrees": 80.0}}) as host:
        host.load("kettle")
        assert host.capabilities["kettle"].degrees == 80.0
