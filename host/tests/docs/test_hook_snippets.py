"""The examples on the pages about hooks, run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import attrs
import pytest
from weighbridge_hookspecs import (
    AdmissionRefused,
    AdmissionRequest,
    Candidate,
    Deferred,
    Event,
    Refused,
    ReleaseRequest,
    UnloadRefused,
    Verdict,
    hookimpl,
)

from weighbridge import Host
from weighbridge.isolation import IsolatedHost
from weighbridge.testing import TemporaryPlugin
from weighbridge.units import GIB, MIB

HERE = Path(__file__).parent
EMPTY = "class Plugin:\n    def __init__(self, context):\n        pass\n"


@pytest.fixture(autouse=True)
def _like_a_fresh_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("WEIGHBRIDGE_CEILING", raising=False)
    monkeypatch.delenv("WEIGHBRIDGE_DISABLED_PLUGINS", raising=False)


def sample(name: str) -> str:
    return (HERE / f"sample_{name}.py").read_text(encoding="utf-8")


# snippet: estimate
class Ledger:
    """Knows what some plugins take, from a fleet's own figures."""

    def __init__(self, known: dict[str, int]) -> None:
        self._known = known

    @hookimpl
    def weighbridge_estimate(self, candidate: Candidate) -> int | None:
        return self._known.get(candidate.name)


# end snippet


# snippet: adjust
class Patience:
    """Lets big loads wait instead of refusing them."""

    @hookimpl
    def weighbridge_adjust(self, request: AdmissionRequest) -> AdmissionRequest | None:
        if request.needs_bytes < 32 * MIB:
            return None
        return attrs.evolve(request, defer=True, priority=-1)


# end snippet


# snippet: admit
class Quota:
    """No plugin may need more than 64 MiB."""

    @hookimpl
    def weighbridge_admit(self, request: AdmissionRequest) -> Verdict | None:
        if request.needs_bytes <= 64 * MIB:
            return None
        return Refused(reason="over the quota of 64 MiB", needs_bytes=request.needs_bytes, advice="Ask for a quota")


# end snippet


# snippet: event
class Diary:
    """Writes down what happens to plugins."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @hookimpl
    def weighbridge_event(self, event: Event) -> None:
        if event.kind == "state":
            self.lines.append(f"{event.plugin}: {event.previous} -> {event.state}")


# end snippet


def test_estimate_of_a_plugin_comes_first(weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """A hook's estimate goes before the declared one; without an opinion the declared one stands."""
    temporary_plugin("oak", EMPTY, manifest='[memory]\nload = "3 MiB"\n')
    temporary_plugin("elm", EMPTY, manifest='[memory]\nload = "3 MiB"\n')
    weighbridge_host.register("ledger", Ledger({"oak": 5 * MIB}))
    assert weighbridge_host.load("oak").estimate_bytes == 5 * MIB
    assert weighbridge_host.load("elm").estimate_bytes == 3 * MIB


def test_adjusted_request_is_the_one_that_is_judged(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """A policy sees the request as it was adjusted."""
    seen: list[AdmissionRequest] = []

    class Watcher:
        @hookimpl
        def weighbridge_admit(self, request: AdmissionRequest) -> None:
            seen.append(request)

    temporary_plugin("oak", EMPTY, manifest='[memory]\nload = "40 MiB"\n')
    temporary_plugin("elm", EMPTY, manifest='[memory]\nload = "4 MiB"\n')
    weighbridge_host.register("patience", Patience())
    weighbridge_host.register("watcher", Watcher())
    weighbridge_host.load("oak")
    weighbridge_host.load("elm")
    assert [(request.candidate.name, request.defer, request.priority) for request in seen] == [
        ("oak", True, -1),
        ("elm", False, 0),
    ]


def test_policy_refuses_before_anything_is_imported(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """One refusal refuses, whatever room there is."""
    temporary_plugin("oak", "raise SystemExit('imported')", manifest='[memory]\nload = "65 MiB"\n')
    weighbridge_host.register("quota", Quota())
    with pytest.raises(AdmissionRefused, match=r"over the quota of 64 MiB\. Ask for a quota") as caught:
        weighbridge_host.load("oak")
    assert caught.value.needs_bytes == 65 * MIB


def test_deferral_of_a_policy_queues_the_load(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """A dry run says what a policy would say, and changes nothing."""

    class Later:
        @hookimpl
        def weighbridge_admit(self, request: AdmissionRequest) -> Verdict | None:
            return Deferred(reason="not before noon")

    temporary_plugin("oak", EMPTY)
    weighbridge_host.register("later", Later())
    assert weighbridge_host.ask("oak") == Deferred(reason="not before noon")
    assert [one.state for one in weighbridge_host.plugins()] == ["discovered"]


def test_observer_sees_every_change_of_state(weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """An observer that was registered sees a plugin from the discovery to its end."""
    diary = Diary()
    weighbridge_host.register("diary", diary)
    temporary_plugin("oak", EMPTY)
    weighbridge_host.load("oak")
    weighbridge_host.unload("oak")
    assert diary.lines == [
        "oak: discovered -> admitted",
        "oak: admitted -> loaded",
        "oak: loaded -> active",
        "oak: active -> draining",
        "oak: draining -> unloaded",
    ]


def test_activation_and_deactivation_frame_the_work(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, caplog: pytest.LogCaptureFixture
) -> None:
    """The timer of the activation is a lease, and the reason of the unload reaches the plugin."""
    temporary_plugin("pump", sample("pump"), attribute="Pump")
    assert weighbridge_host.load("pump").leases == {"capability": 1, "log": 1, "timer": 1}
    assert "water-pressure" in weighbridge_host.capabilities
    with caplog.at_level("INFO"):
        receipt = weighbridge_host.unload("pump", reason="the well is dry")
    assert "stopped after 0 strokes: the well is dry" in caplog.text
    assert receipt.leases_revoked == {"capability": 1, "log": 1, "timer": 1}
    assert "water-pressure" not in weighbridge_host.capabilities


def test_an_unload_is_refused_while_somebody_objects(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """The plugin says why, and can be unloaded when it has nothing to say any more."""
    temporary_plugin("pump", sample("pump"), attribute="Pump")
    weighbridge_host.load("pump")
    pump: Any = weighbridge_host.hook.weighbridge_veto_unload.get_hookimpls()[0].plugin
    pump.is_stroking = True
    with pytest.raises(UnloadRefused, match="a stroke is half done"):
        weighbridge_host.unload("pump")
    pump.is_stroking = False
    del pump
    assert weighbridge_host.unload("pump").state == "unloaded"


def test_capability_is_described_with_evidence(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """Whoever asks for capabilities sees who provides them, and on what grounds."""
    temporary_plugin("pump", sample("pump"), attribute="Pump")
    weighbridge_host.load("pump")
    [capability] = weighbridge_host.capabilities.describe()
    assert (capability.name, capability.owner, capability.evidence) == ("water-pressure", "pump", "the gauge answered")
    assert capability.details == {"unit": "bar"}


def test_reported_memory_is_native(weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """What a plugin reports is on its account beside what Python allocated."""
    temporary_plugin("heap", sample("heap"), attribute="Heap")
    assert weighbridge_host.load("heap").native_bytes == 24 * 4096


def test_memory_is_released_until_a_need_is_met(
    temporary_plugin: TemporaryPlugin, weighbridge_host: IsolatedHost
) -> None:
    """Before a refusal for want of room every loaded plugin is asked, and the account shows what it gave."""
    temporary_plugin("heap", sample("heap"), attribute="Heap")
    temporary_plugin("oak", EMPTY, manifest='[memory]\nload = "64 GiB"\n')
    with Host(4 * GIB) as host:
        host.load("heap")
        with pytest.raises(AdmissionRefused, match="no room"):
            host.load("oak")
        reaction = host.statistics().last_reaction
        assert reaction is not None
        assert reaction.believed_bytes == {"heap": 16 * 4096}
        assert host.account("heap").native_bytes == 8 * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/meminfo")
def test_who_knows_of_pressure_has_others_give_memory_back(temporary_plugin: TemporaryPlugin) -> None:
    """The gauge wants more than any machine has, so the heap is asked for all that it can spare."""
    temporary_plugin("heap", sample("heap"), attribute="Heap")
    temporary_plugin("gauge", sample("gauge"), attribute="Gauge")
    with IsolatedHost(settings={"gauge": {"reserve_bytes": 1 << 50}}) as host:
        host.allow("heap", "gauge")
        host.load_all()
        host._roster["gauge"].thing.look()
        reaction = host.statistics().last_reaction
        assert reaction is not None
        assert (reaction.occasion, reaction.level) == ("request", "critical")
        assert reaction.believed_bytes == {"heap": 16 * 4096}


def test_release_request_says_how_much_is_wanted(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """A plugin stops giving once the need is met."""
    temporary_plugin("heap", sample("heap"), attribute="Heap")
    weighbridge_host.load("heap")
    request = ReleaseRequest(bytes=3 * 4096)
    assert weighbridge_host.hook.weighbridge_release_memory(request=request) == [3 * 4096]


def test_scalable_part_is_checked_at_activation(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """The plugin is loaded, so what it handed out is a ScalableSubsystem."""
    temporary_plugin("pool", sample("workers"), attribute="Pool")
    weighbridge_host.load("pool")
    [subsystem] = weighbridge_host.hook.weighbridge_scalable()
    assert subsystem.backpressure().accepting
    assert subsystem.metrics().running == 0


def test_what_a_plugin_knows_of_the_machine_has_its_evidence(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """A fact comes with the name of who says so."""
    temporary_plugin("arena", sample("arena"), attribute="Arena")
    weighbridge_host.load("arena")
    [(name, fact)] = weighbridge_host.examine()
    assert (name, fact.subject) == ("arena", "huge pages")
    assert fact.evidence.startswith("/sys/kernel/mm/transparent_hugepage/enabled")


class Paper:
    """A terminal that keeps what is printed."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str = "") -> None:
        self.lines.append(text)

    def complain(self, text: object) -> None:
        self.lines.append(f"! {text}")

    def print_table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        self.lines += [" | ".join(row) for row in (columns, *rows)]

    def print_json(self, document: Mapping[str, Any]) -> None:
        self.lines.append(f"{sorted(document)}")

    def progress(self, what: str, total: int) -> AbstractContextManager[Callable[[str], None]]:
        return nullcontext(self.lines.append)


def test_a_plugin_has_a_command_of_its_own(weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """It gets what was typed after its name, prints on the terminal that it is given, and says the exit code."""
    temporary_plugin("arena", sample("arena"), attribute="Arena")
    weighbridge_host.load("arena")
    paper = Paper()
    assert weighbridge_host.command("arena", (), paper) == 0
    assert [line.split(" | ")[0] for line in paper.lines] == ["subject", "huge pages"]
    assert weighbridge_host.command("arena", ("--json",), paper) == 0
    assert paper.lines[-1] == "['facts']"
    assert weighbridge_host.command("arena", ("--jsn",), paper) == 2
    assert paper.lines[-1] == "! arena: wanted nothing or --json, had --jsn"


def test_buffer_comes_from_the_first_that_answers(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """A plugin that is asked for what it does not have passes."""
    temporary_plugin("arena", sample("arena"), attribute="Arena")
    weighbridge_host.load("arena")
    buffer = weighbridge_host.hook.weighbridge_allocate_buffer(size=4096, node=None)
    assert buffer.nbytes == 4096
    buffer.release()
    assert weighbridge_host.hook.weighbridge_allocate_buffer(size=4096, node=1) is None
