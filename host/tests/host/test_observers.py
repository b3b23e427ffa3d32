"""Observers: what they are told, and that they cannot do harm."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytest
from weighbridge_hookspecs import AdmissionRefused, Event, Refused, hookimpl

from weighbridge.isolation import IsolatedHost
from weighbridge.testing import TemporaryPlugin

GOOD = "class Plugin:\n    def __init__(self, context):\n        pass\n"


class Diary:
    """Writes down every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    @hookimpl
    def weighbridge_event(self, event: Event) -> None:
        self.events.append(event)

    def states(self) -> list[tuple[str | None, str | None]]:
        return [(event.previous, event.state) for event in self.events if event.kind == "state"]


class Interrupting:
    """Raises once, when a plugin comes into one state."""

    def __init__(self, state: str, error: type[BaseException]) -> None:
        self.state, self.error = state, error
        self.left = 1

    @hookimpl
    def weighbridge_event(self, event: Event) -> None:
        if event.state == self.state and self.left:
            self.left -= 1
            raise self.error(3)


def state_of(host: IsolatedHost) -> str:
    return host.plugins()[0].state


def test_every_change_of_state_is_told_in_order(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """With the state before."""
    temporary_plugin("good", GOOD)
    diary = Diary()
    weighbridge_host.register("diary", diary)
    weighbridge_host.load("good")
    assert diary.states() == [("discovered", "admitted"), ("admitted", "loaded"), ("loaded", "active")]
    diary.events.clear()
    weighbridge_host.unload("good", reason="it is late")
    assert diary.states() == [("active", "draining"), ("draining", "unloaded")]
    assert {event.reason for event in diary.events} == {"it is late"}
    assert {event.plugin for event in diary.events} == {"good"}


def test_a_failed_load_is_told_with_its_reason(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """The same one that the error has."""
    temporary_plugin("bad", "raise RuntimeError('out of oil')")
    diary = Diary()
    weighbridge_host.register("diary", diary)
    weighbridge_host.load_all()
    assert diary.states() == [("discovered", "admitted"), ("admitted", "failed")]
    assert diary.events[-1].reason == "importing weighbridge_bad:Plugin failed: RuntimeError: out of oil"


def test_a_refusal_is_told(weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """As a change of state, and as what it is."""

    class Doorman:
        @hookimpl
        def weighbridge_admit(self) -> Refused:
            return Refused(reason="not in these shoes", needs_bytes=4096)

    temporary_plugin("good", GOOD)
    diary = Diary()
    weighbridge_host.register("diary", diary)
    weighbridge_host.register("doorman", Doorman())
    with pytest.raises(AdmissionRefused):
        weighbridge_host.load("good")
    assert [(event.kind, event.state, event.reason, event.bytes) for event in diary.events] == [
        ("state", "refused", "not in these shoes", None),
        ("refusal", None, "not in these shoes", 4096),
    ]


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_an_observer_that_raises_reaches_nobody(
    weighbridge_host: IsolatedHost,
    temporary_plugin: TemporaryPlugin,
    caplog: pytest.LogCaptureFixture,
    error: type[BaseException],
) -> None:
    """Not the host, not the plugin, and not the next observer; it is logged."""
    temporary_plugin("good", GOOD)
    diary = Diary()
    weighbridge_host.register("diary", diary)
    for state in ("admitted", "loaded", "active", "draining", "unloaded"):
        weighbridge_host.register(f"raises at {state}", Interrupting(state, error))
    with caplog.at_level(logging.ERROR):
        weighbridge_host.load("good")
        assert weighbridge_host.unload("good").failures == ()
    assert [state for _, state in diary.states()] == ["admitted", "loaded", "active", "draining", "unloaded"]
    assert len([one for one in caplog.records if "weighbridge_event raised" in one.getMessage()]) == 5


@pytest.mark.parametrize("state", ["admitted", "loaded"])
def test_ctrl_c_in_an_observer_undoes_a_load(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, state: str
) -> None:
    """A plugin that was admitted and never loaded would keep its place for ever."""
    package = temporary_plugin("good", GOOD)
    weighbridge_host.register("observer", Interrupting(state, KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        weighbridge_host.load("good")
    assert (state_of(weighbridge_host), package in sys.modules) == ("failed", False)
    assert weighbridge_host.load("good").state == "active"


def test_ctrl_c_in_an_observer_undoes_a_drain(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """The plugin goes on, and can be unloaded later."""
    temporary_plugin("good", GOOD)
    weighbridge_host.load("good")
    weighbridge_host.register("observer", Interrupting("draining", KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        weighbridge_host.unload("good")
    assert state_of(weighbridge_host) == "active"
    assert weighbridge_host.unload("good").state == "unloaded"


def test_plugins_observe_too_as_long_as_they_are_there(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They see themselves become active and draining, and others come and go; nothing after their receipt."""
    harbour: Any = type(sys)("harbour")
    harbour.seen = []
    monkeypatch.setitem(sys.modules, "harbour", harbour)
    temporary_plugin("good", GOOD)
    temporary_plugin(
        "watching",
        "from harbour import seen\nfrom weighbridge_hookspecs import hookimpl\n"
        + GOOD
        + "    @hookimpl\n    def weighbridge_event(self, event):\n        seen.append((event.plugin, event.state))\n",
    )
    weighbridge_host.load("watching")
    weighbridge_host.load("good")
    weighbridge_host.unload("watching")
    weighbridge_host.unload("good")
    assert harbour.seen == [
        ("watching", "loaded"),
        ("watching", "active"),
        ("good", "admitted"),
        ("good", "loaded"),
        ("good", "active"),
        ("watching", "draining"),
    ]
