"""Loading: in which order, what comes with it, and what a report says."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest
from weighbridge_hookspecs import Event, LoadFailed, UnloadRefused, WeighbridgeError, hookimpl, hookspec

from weighbridge import Host
from weighbridge.isolation import IsolatedHost
from weighbridge.testing import TemporaryPlugin

GOOD = "class Plugin:\n    def __init__(self, context):\n        pass\n"
FAILING = "raise RuntimeError('out of oil')"


def requires(*names: str) -> str:
    return f"[plugin]\nrequires = {list(names)}\n"


class Diary:
    """An observer that writes down who became what."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str]] = []

    @hookimpl
    def weighbridge_event(self, event: Event) -> None:
        if event.kind == "state" and event.plugin and event.state:
            self.entries.append((event.plugin, event.state))

    def who_became(self, state: str) -> list[str]:
        return [plugin for plugin, became in self.entries if became == state]


@pytest.fixture
def diary(weighbridge_host: IsolatedHost) -> Diary:
    made = Diary()
    weighbridge_host.register("diary", made)
    return made


def states(host: Host) -> dict[str, str]:
    return {one.name: one.state for one in host.plugins()}


def test_plugins_are_loaded_after_what_they_require_and_what_they_come_after(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, diary: Diary
) -> None:
    """By name where that leaves a choice; whom one comes `after` need not be there."""
    temporary_plugin("a", GOOD, manifest='[plugin]\nrequires = ["c"]\nafter = ["absent"]\n')
    temporary_plugin("b", GOOD, manifest='[plugin]\nafter = ["d"]\n')
    temporary_plugin("c", GOOD)
    temporary_plugin("d", GOOD)
    report = weighbridge_host.load_all()
    assert [one.name for one in report.loaded] == ["c", "a", "d", "b"]
    assert diary.who_became("active") == ["c", "a", "d", "b"]


def test_a_load_brings_in_what_is_required(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, diary: Diary
) -> None:
    """First, and only what is not there yet."""
    temporary_plugin("top", GOOD, manifest=requires("mid", "base"))
    temporary_plugin("mid", GOOD, manifest=requires("base"))
    temporary_plugin("base", GOOD)
    temporary_plugin("other", GOOD)
    weighbridge_host.load("base")
    assert weighbridge_host.load("top").plugin == "top"
    assert diary.who_became("active") == ["base", "mid", "top"]
    assert states(weighbridge_host)["other"] == "discovered"


def test_named_plugins_bring_in_what_they_require(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """And nobody else; what is loaded already is left alone and not in the report."""
    temporary_plugin("top", GOOD, manifest=requires("base"))
    temporary_plugin("base", GOOD)
    temporary_plugin("other", GOOD)
    temporary_plugin("there", GOOD)
    weighbridge_host.load("there")
    report = weighbridge_host.load_all(["top", "there"])
    assert [one.name for one in report.loaded] == ["base", "top"]
    assert states(weighbridge_host) == {"base": "active", "other": "discovered", "there": "active", "top": "active"}


def test_a_report_says_how_it_ended_for_each(weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """One that cannot be loaded never stops the others."""

    class Doorman:
        @hookimpl
        def weighbridge_admit(self, request: Any) -> Any:
            from weighbridge_hookspecs import Admitted, Deferred, Refused

            return {
                "barred": Refused(reason="not in these shoes"),
                "early": Deferred(reason="not yet"),
                "good": Admitted(warnings=("mind the step",)),
            }.get(request.candidate.name)

    class Songs:
        @hookspec
        def song(self) -> str:
            raise NotImplementedError

    temporary_plugin("good", GOOD)
    temporary_plugin("barred", FAILING)
    temporary_plugin("early", FAILING)
    temporary_plugin("bad", FAILING)
    temporary_plugin("lost", FAILING, manifest=requires("ghost"))
    temporary_plugin("old", FAILING, manifest="[plugin]\napi = 7\n")
    temporary_plugin("odd", FAILING, manifest="api = 1\n")
    temporary_plugin("dozy", FAILING, manifest='[plugin]\nactivation = "first-call"\nhooks = ["song"]\n')
    weighbridge_host.add_hookspecs(Songs)
    weighbridge_host.register("doorman", Doorman())
    report = weighbridge_host.load_all()
    assert [(one.name, one.state, one.warnings) for one in report.loaded] == [("good", "active", ("mind the step",))]
    assert [(one.name, one.state, one.reason) for one in report.dormant] == [
        ("dozy", "dormant", "until the first call of song")
    ]
    assert [(one.name, one.state) for one in report.deferred] == [("early", "deferred")]
    assert [(one.name, one.state) for one in report.refused] == [("barred", "refused")]
    assert [(one.name, one.state) for one in report.failed] == [
        ("bad", "failed"),
        ("old", "incompatible"),
        ("lost", "unresolved"),
        ("odd", "incompatible"),
    ]
    again = weighbridge_host.load_all()
    assert (again.loaded, again.dormant) == ((), ())
    assert again.failed[:2] == report.failed[:2]


def test_strict_raises_the_first_error(weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """What was loaded before it stays, and what comes after it is not tried."""
    temporary_plugin("a", GOOD)
    temporary_plugin("b", FAILING)
    temporary_plugin("c", GOOD)
    with pytest.raises(LoadFailed, match="out of oil"):
        weighbridge_host.load_all(strict=True)
    assert states(weighbridge_host) == {"a": "active", "b": "failed", "c": "discovered"}


def test_strict_raises_what_discovery_found_wrong(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """Even if every candidate was loaded."""
    temporary_plugin("a", GOOD)
    temporary_plugin("odd", GOOD, manifest="api = 1\n")
    with pytest.raises(WeighbridgeError, match="odd: the manifest in weighbridge-odd is not valid"):
        weighbridge_host.load_all(strict=True)
    assert states(weighbridge_host) == {"a": "active"}


def test_an_unload_takes_those_along_that_require_it(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, diary: Diary
) -> None:
    """They go first, and their receipts come with the one that was asked for."""
    temporary_plugin("base", GOOD)
    temporary_plugin("mid", GOOD, manifest=requires("base"))
    temporary_plugin("top", GOOD, manifest=requires("mid"))
    temporary_plugin("other", GOOD)
    weighbridge_host.load_all()
    receipt = weighbridge_host.unload("base", reason="spring cleaning")
    assert diary.who_became("unloaded") == ["top", "mid", "base"]
    assert [one.plugin for one in receipt.also_unloaded] == ["top", "mid"]
    assert receipt.reason == "spring cleaning"
    assert receipt.also_unloaded[0].reason == "base, which it requires, is being unloaded"
    assert states(weighbridge_host)["other"] == "active"
    assert set(weighbridge_host.receipts) == {"top", "mid", "base"}


def test_without_cascade_those_that_require_it_are_a_reason_to_refuse(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """Nothing has changed then."""
    temporary_plugin("base", GOOD)
    temporary_plugin("mid", GOOD, manifest=requires("base"))
    temporary_plugin("top", GOOD, manifest=requires("mid"))
    weighbridge_host.load("top")
    with pytest.raises(UnloadRefused) as caught:
        weighbridge_host.unload("base", cascade=False)
    assert str(caught.value) == "base: is required by top, mid. Unload those first"
    assert set(states(weighbridge_host).values()) == {"active"}
    assert weighbridge_host.unload("top", cascade=False).state == "unloaded"


def test_statistics_count_what_happened(weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """By state, and over the host's whole life."""
    temporary_plugin("good", GOOD)
    temporary_plugin("bad", FAILING)
    weighbridge_host.load_all()
    weighbridge_host.unload("good")
    statistics = weighbridge_host.statistics()
    assert statistics.states == {"failed": 1, "unloaded": 1}
    assert (statistics.loads, statistics.unloads, statistics.failures, statistics.refusals) == (1, 1, 1, 0)


def test_two_threads_can_load_at_once(weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """They take turns; each has its own plugin, and one that was too late is told so."""
    names = [f"plugin{number}" for number in range(6)]
    for name in names:
        temporary_plugin(name, GOOD)
    start, problems = threading.Barrier(4), []

    def load(mine: list[str]) -> None:
        start.wait()
        for name in mine:
            try:
                weighbridge_host.load(name)
            except WeighbridgeError as error:
                problems.append(str(error))

    threads = [threading.Thread(target=load, args=(mine,)) for mine in (names[:4], names[:4], names[2:], names[4:])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states(weighbridge_host) == dict.fromkeys(names, "active")
    assert len(problems) == 4 + 4 + 4 + 2 - 6
    assert all("is loaded already" in problem for problem in problems)


def test_a_plugin_that_is_being_loaded_by_another_thread_is_waited_for(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no nested load, which would be an error."""
    harbour: Any = type(sys)("harbour")
    harbour.entered, harbour.go = threading.Event(), threading.Event()
    monkeypatch.setitem(sys.modules, "harbour", harbour)
    temporary_plugin("slow", "from harbour import entered, go\nentered.set()\ngo.wait()\n" + GOOD)
    temporary_plugin("good", GOOD)
    weighbridge_host.discover()
    outcomes: list[str] = []
    first = threading.Thread(target=lambda: outcomes.append(weighbridge_host.load("slow").plugin))
    first.start()
    harbour.entered.wait()
    second = threading.Thread(target=lambda: outcomes.append(weighbridge_host.load("good").plugin))
    second.start()
    assert outcomes == []
    assert weighbridge_host.accounts().usage_bytes > 0  # accounts do not wait
    harbour.go.set()
    first.join()
    second.join()
    assert outcomes == ["slow", "good"]
