"""Loads that wait for room: they come in by priority, then by age, when another plugin has gone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import attrs
import psutil
import pytest
from weighbridge_hookspecs import AdmissionDeferred, AdmissionRefused, AdmissionRequest, Event, hookimpl

from weighbridge.isolation import IsolatedHost
from weighbridge.testing import TemporaryPlugin
from weighbridge.units import MIB

GOOD = "class Plugin:\n    def __init__(self, context):\n        pass\n"
# a promise is kept for a plugin whether it uses it or not, so no memory has to be filled here
HEAVY = '[plugin]\n[memory]\nload = "1 MiB"\npeak = "600 MiB"\n'
LIGHT = '[plugin]\n[memory]\nload = "1 MiB"\npeak = "300 MiB"\n'


@pytest.fixture
def host(temporary_plugin: TemporaryPlugin) -> Iterator[IsolatedHost]:
    """A host with room for one heavy plugin, or two light ones."""
    ceiling = psutil.Process().memory_info().rss + 700 * MIB
    with IsolatedHost(ceiling) as made:
        temporary_plugin("first", GOOD, manifest=HEAVY)
        for name in ("a", "b", "c"):
            temporary_plugin(name, GOOD, manifest=LIGHT)
        made.allow("first", "a", "b", "c", "bad")
        made.load("first")
        yield made


def states(host: IsolatedHost) -> dict[str, str]:
    return {one.name: one.state for one in host.plugins()}


def defer(host: IsolatedHost, name: str, priority: int = 0) -> None:
    with pytest.raises(AdmissionDeferred):
        host.load(name, priority=priority, defer=True)


def test_a_load_that_is_deferred_says_what_it_waits_for(host: IsolatedHost) -> None:
    """Nothing of it is imported, and its state keeps the reason."""
    with pytest.raises(AdmissionDeferred) as caught:
        host.load("a", defer=True)
    assert str(caught.value).startswith("a: deferred: no room: it needs 300.0 MiB (its declared peak), and of the ")
    assert str(caught.value).endswith(
        ". It is tried again when another plugin is unloaded, and when memory pressure is over"
    )
    assert caught.value.needs_bytes == 300 * MIB
    assert caught.value.headroom_bytes is not None
    assert caught.value.headroom_bytes < 300 * MIB
    assert states(host)["a"] == "deferred"
    assert "weighbridge_a" not in sys.modules


def test_deferred_loads_come_in_by_priority_and_then_by_age(host: IsolatedHost) -> None:
    """As many as fit; the others go on waiting."""
    for name, priority in (("a", 0), ("b", 5), ("c", 0)):
        defer(host, name, priority)
    host.unload("first")
    assert states(host) == {"a": "active", "b": "active", "c": "deferred", "first": "unloaded"}
    host.unload("b")
    assert states(host)["c"] == "active"


def test_asking_again_does_not_cost_a_place(host: IsolatedHost) -> None:
    """Nor does it take a second one: whoever asks three times is loaded once."""
    for name in ("a", "b", "c", "a", "a"):
        defer(host, name)
    host.unload("first")
    assert states(host) == {"a": "active", "b": "active", "c": "deferred", "first": "unloaded"}


def test_a_later_refusal_takes_a_load_out_of_the_queue(host: IsolatedHost) -> None:
    """Whoever asked last did not want to wait."""
    defer(host, "a")
    with pytest.raises(AdmissionRefused):
        host.load("a")
    host.unload("first")
    assert states(host)["a"] == "refused"


def test_a_reload_does_not_lose_its_place_to_those_that_wait(host: IsolatedHost) -> None:
    """It gives up the room for a moment only."""
    defer(host, "a", priority=9)
    defer(host, "b", priority=9)
    assert host.reload("first").state == "active"
    assert (states(host)["a"], states(host)["b"]) == ("deferred", "deferred")


def test_a_priority_is_adjusted_once_for_each_attempt(host: IsolatedHost) -> None:
    """It would grow with every attempt if an attempt began with what the one before had made of it."""

    class Clerk:
        asked: list[tuple[str, int]] = []  # noqa: RUF012

        @hookimpl
        def weighbridge_adjust(self, request: AdmissionRequest) -> AdmissionRequest:
            return attrs.evolve(request, priority=request.priority + 1)

        @hookimpl
        def weighbridge_admit(self, request: AdmissionRequest) -> None:
            self.asked.append((request.candidate.name, request.priority))

    defer(host, "a", priority=5)
    clerk = Clerk()
    host.register("clerk", clerk)
    host.unload("first")
    assert clerk.asked == [("a", 6)]


def test_a_plugin_that_fails_does_not_hold_up_the_queue(host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """Those behind it come in all the same."""
    temporary_plugin("bad", "raise RuntimeError", manifest=LIGHT)
    host.discover()
    for name, priority in (("bad", 5), ("a", 0)):
        defer(host, name, priority)
    host.unload("first")
    assert (states(host)["bad"], states(host)["a"]) == ("failed", "active")


def test_ctrl_c_while_the_queue_is_served_empties_nothing(
    host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """The others wait on, for the next unload."""
    temporary_plugin("bad", "raise KeyboardInterrupt", manifest=LIGHT)
    host.discover()
    for name, priority in (("bad", 5), ("a", 0), ("b", 0), ("c", 0)):
        defer(host, name, priority)
    with pytest.raises(KeyboardInterrupt):
        host.unload("first")
    assert states(host) == {"a": "deferred", "b": "deferred", "bad": "failed", "c": "deferred", "first": "unloaded"}
    host.load("a")
    host.unload("a")
    assert (states(host)["b"], states(host)["c"]) == ("active", "active")


def test_a_discovery_in_between_forgets_nobody(host: IsolatedHost) -> None:
    """Those that wait are not seen anew."""
    defer(host, "a")
    host.discover()
    assert states(host)["a"] == "deferred"
    host.unload("first")
    assert states(host)["a"] == "active"


def test_closing_loads_nobody(host: IsolatedHost) -> None:
    """The room that it makes is not for those that wait."""

    class Diary:
        loaded: list[str | None] = []  # noqa: RUF012

        @hookimpl
        def weighbridge_event(self, event: Event) -> None:
            if event.state == "loaded":
                self.loaded.append(event.plugin)

    diary: Any = Diary()
    host.register("diary", diary)
    defer(host, "a")
    host.close()
    assert diary.loaded == []
    assert states(host)["a"] == "deferred"
