"""Admission under a ceiling, and the accounts: decided before anything is imported, charged to whom it belongs."""

from __future__ import annotations

import gc
import os
import re
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, cast

import attrs
import psutil
import pytest
from weighbridge_hookspecs import (
    AdmissionDeferred,
    AdmissionRefused,
    AdmissionRequest,
    Deferred,
    Refused,
    hookimpl,
    hookspec,
)

from weighbridge import Statement, Weight, Weights
from weighbridge.accounting.meters import METERS, TraceMeter
from weighbridge.isolation import IsolatedHost
from weighbridge.testing import TemporaryPlugin

MIB: Final = 1024 * 1024
HOOK: Final = "from weighbridge_hookspecs import hookimpl\nimport harbour\n"
GOOD: Final = "class Plugin:\n    def __init__(self, context):\n        pass\n"
IMPORTED: Final = "raise RuntimeError('imported')"


def memory(load: int | None = None, peak: int | None = None) -> str:
    """A manifest that declares MiB."""
    lines = [f'{key} = "{size} MiB"' for key, size in (("load", load), ("peak", peak)) if size is not None]
    return "\n".join(["[plugin]", "[memory]", *lines, ""])


class Trade:
    """The application's hooks."""

    @hookspec
    def store(self, nbytes: int) -> None:
        raise NotImplementedError

    @hookspec
    def relay(self, nbytes: int) -> None:
        raise NotImplementedError


@pytest.fixture
def harbour(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The application's own module, which plugins can import."""
    module: Any = type(sys)("harbour")
    module.calls = []
    monkeypatch.setitem(sys.modules, "harbour", module)
    return module


@pytest.fixture
def with_room() -> Iterator[Callable[..., IsolatedHost]]:
    """Makes a host whose ceiling leaves some MiB beyond what the process occupies now."""
    hosts: list[IsolatedHost] = []

    def make(room: int, **options: Any) -> IsolatedHost:
        gc.collect()
        hosts.append(IsolatedHost(psutil.Process().memory_info().rss + room * MIB, **options))
        hosts[-1].add_hookspecs(Trade)
        return hosts[-1]

    yield make
    for host in hosts:
        host.close()


# -- admission before import ---------------------------------------------------------------------------------------


def test_a_plugin_that_is_refused_costs_no_import(
    with_room: Callable[..., IsolatedHost], temporary_plugin: TemporaryPlugin
) -> None:
    """The message has what it needs, on which grounds, and what is in use; sys.modules is untouched."""
    package = temporary_plugin("heavy", IMPORTED, manifest=memory(load=500))
    host = with_room(100)
    host.allow("heavy")
    with pytest.raises(AdmissionRefused) as caught:
        host.load("heavy")
    size = r"\d+\.\d [MG]iB"
    assert re.fullmatch(
        rf"heavy: refused: no room: it needs 500\.0 MiB \(its declared load\), and of the ceiling of {size} {size} are "
        rf"in use\. Raise the ceiling to {size}",
        str(caught.value),
    )
    assert caught.value.needs_bytes == 500 * MIB
    assert caught.value.headroom_bytes is not None
    assert caught.value.headroom_bytes < 120 * MIB
    assert package not in sys.modules
    assert [(one.name, one.state) for one in host.plugins()] == [("heavy", "refused")]
    assert host.statistics().refusals == 1


@pytest.mark.parametrize(
    ("weighed", "manifest", "expected", "grounds"),
    [
        (None, None, 10 * MIB, "the default for a plugin that was never weighed"),
        (None, memory(load=3), 3 * MIB, "its declared load"),
        (5 * MIB, memory(load=3), 5 * MIB, "as it weighed last time"),
        (5 * MIB, memory(load=3, peak=7), 7 * MIB, "its declared peak"),
    ],
)
def test_what_it_needs_is_what_is_known_best(
    temporary_plugin: TemporaryPlugin, weighed: int | None, manifest: str | None, expected: int, grounds: str
) -> None:
    """Weighed goes before declared, and the promised peak has to fit as well."""

    @attrs.define
    class Known(Weights):
        def get(self, candidate: object) -> Weight | None:
            return weighed and Weight(traced_bytes=0, resident_bytes=weighed, import_seconds=0.0)  # type: ignore[return-value]

    temporary_plugin("heavy", IMPORTED, manifest=manifest)
    with IsolatedHost(1, weights=Known()) as host:
        host.allow("heavy")
        with pytest.raises(AdmissionRefused, match=re.escape(f"({grounds})")) as caught:
            host.load("heavy")
    assert caught.value.needs_bytes == expected


def test_the_smallest_plugin_that_makes_enough_room_is_advised(
    with_room: Callable[..., IsolatedHost], temporary_plugin: TemporaryPlugin
) -> None:
    """With what it holds; where nobody is big enough, the biggest together."""
    holding = "class Plugin:\n    def __init__(self, context):\n        context.charge({} << 20, 'cargo')\n"
    for name, size in (("small", 20), ("middle", 60), ("large", 90)):
        temporary_plugin(name, holding.format(size))
    temporary_plugin("next", IMPORTED, manifest=memory(load=1050))
    temporary_plugin("much", IMPORTED, manifest=memory(load=1130))
    host = with_room(1000)
    host.allow("small", "middle", "large", "next", "much")
    host.load_all(["small", "middle", "large"])
    advice = {}
    for name in ("next", "much"):
        with pytest.raises(AdmissionRefused) as caught:
            host.load(name)
        advice[name] = str(caught.value).rpartition(". ")[2] if caught.value.advice is None else caught.value.advice
    assert re.fullmatch(r"Unload middle \(60\.0 MiB\), or raise the ceiling to \d+\.\d GiB", advice["next"])
    assert re.fullmatch(
        r"Unload large \(90\.0 MiB\) and middle \(60\.0 MiB\), or raise the ceiling to \d+\.\d GiB", advice["much"]
    )


def test_garbage_is_collected_before_anybody_is_refused(
    with_room: Callable[..., IsolatedHost], temporary_plugin: TemporaryPlugin
) -> None:
    """It is the cheapest room there is."""

    class Knot:
        def __init__(self) -> None:
            self.itself, self.cargo = self, b"x" * (80 * MIB)

    temporary_plugin("next", GOOD, manifest=memory(load=20))
    gc.disable()
    try:
        host = with_room(40)
        Knot()
        host.allow("next")
        assert host.load("next").state == "active"
    finally:
        gc.enable()
    reaction = host.statistics().last_reaction
    assert reaction is not None
    assert reaction.resident_before_bytes - reaction.resident_after_bytes > 60 * MIB
    assert reaction.believed_bytes == {}


RELEASING: Final = (
    HOOK
    + "class Plugin:\n"
    + "    def __init__(self, context):\n"
    + "        self.name = context.name\n"
    + "        self.cargo = b'x' * (30 << 20)\n"
    + "    @hookimpl\n"
    + "    def weighbridge_release_memory(self, request):\n"
    + "        harbour.calls.append((self.name, request.bytes, request.level))\n"
    + "        size, self.cargo = len(self.cargo), b''\n"
    + "        return size\n"
)


def test_plugins_are_asked_for_memory_before_anybody_is_refused(
    with_room: Callable[..., IsolatedHost], temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """One that really frees 30 MiB makes room; what it believes is kept beside what was measured."""
    temporary_plugin("hoarder", RELEASING)
    temporary_plugin("next", GOOD, manifest=memory(load=40))
    host = with_room(50)
    host.allow("hoarder", "next")
    host.load("hoarder")
    assert host.load("next").state == "active"
    ((name, wanted, level),) = harbour.calls
    assert (name, level) == ("hoarder", "elevated")
    assert 0 < wanted <= 40 * MIB
    reaction = host.statistics().last_reaction
    assert reaction is not None
    assert reaction.believed_bytes == {"hoarder": 30 * MIB}
    assert reaction.resident_before_bytes - reaction.resident_after_bytes > 25 * MIB
    assert reaction.wanted_bytes >= wanted


def test_the_biggest_is_asked_first_until_there_is_room(
    with_room: Callable[..., IsolatedHost], temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """Whoever is behind it keeps what it has; one that only boasts does not end the search."""
    temporary_plugin("middle", RELEASING)
    boasting = RELEASING.replace("b'x' * (30 << 20)", "b''").replace("return size", "return 1 << 40")
    temporary_plugin("large", boasting + "    pass\n" + _charging(90))
    temporary_plugin("small", RELEASING.replace("(30 << 20)", "(1 << 20)"))
    temporary_plugin("next", GOOD, manifest=memory(load=40))
    host = with_room(50)
    host.allow("small", "middle", "large", "next")
    host.load_all(["small", "middle", "large"])
    assert host.load("next").state == "active"
    assert [name for name, *_ in harbour.calls] == ["large", "middle"]


def _charging(size: int) -> str:
    """Puts MiB on the account of the class above."""
    return (
        "taken = Plugin.__init__\n"
        f"def charging(self, context):\n    taken(self, context)\n    context.charge({size} << 20, 'cargo')\n"
        "Plugin.__init__ = charging\n"
    )


def test_one_that_raises_when_asked_does_not_end_the_search(
    with_room: Callable[..., IsolatedHost], temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """It released nothing, as far as anybody knows."""
    temporary_plugin("large", RELEASING.replace("b'x' * (30 << 20)", "1") + _charging(90))  # len(1) raises
    temporary_plugin("middle", RELEASING)
    temporary_plugin("next", GOOD, manifest=memory(load=40))
    host = with_room(50)
    host.allow("middle", "large", "next")
    host.load_all(["middle", "large"])
    assert host.load("next").state == "active"
    reaction = host.statistics().last_reaction
    assert reaction is not None
    assert reaction.believed_bytes == {"large": 0, "middle": 30 * MIB}


def test_promised_peaks_count_until_their_plugin_is_gone(
    with_room: Callable[..., IsolatedHost], temporary_plugin: TemporaryPlugin
) -> None:
    """What a plugin was promised is not given to another one, used or not; a returned share restores the headroom."""
    temporary_plugin("first", GOOD, manifest=memory(load=1, peak=700))
    temporary_plugin("second", GOOD, manifest=memory(load=1, peak=700))
    host = with_room(1000)
    host.allow("first", "second")
    before = host.budget()
    account = host.load("first")
    during = host.budget()
    with pytest.raises(AdmissionRefused, match=r"GiB are in use and 700\.0 MiB promised|MiB are in use and 700"):
        host.load("second")
    host.unload("first")
    after = host.budget()
    assert before is not None
    assert during is not None
    assert after is not None
    assert (before.promised_bytes, after.promised_bytes) == (0, 0)
    assert during.promised_bytes == 700 * MIB - account.held_bytes
    assert during.headroom_bytes < 350 * MIB < after.headroom_bytes
    assert host.load("second").state == "active"


def test_a_decision_calls_no_plugin(
    with_room: Callable[..., IsolatedHost], temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """With 50 of them loaded, each of which would tell."""
    telling = HOOK + "\n".join(
        ["class Plugin:", "    def __init__(self, context):", "        pass"]
        + [
            f"    @hookimpl\n    def {hook}(self):\n        harbour.calls.append({hook!r})"
            for hook in (
                "weighbridge_report_memory",
                "weighbridge_release_memory",
                "weighbridge_activate",
                "weighbridge_event",
                "weighbridge_scalable",
            )
        ]
    )
    names = [f"plugin{number:02}" for number in range(50)]
    for name in names:
        temporary_plugin(name, telling, manifest=memory(load=1, peak=2))
    temporary_plugin("next", IMPORTED)
    host = with_room(4000)
    host.allow(*names, "next")
    report = host.load_all(names)
    assert len(report.loaded) == 50
    assert harbour.calls
    harbour.calls.clear()
    assert not isinstance(host.ask("next"), Refused)
    assert host.budget() is not None
    assert harbour.calls == []


# -- policies ------------------------------------------------------------------------------------------------------


class Policy:
    """The application's policy: gives its answer, or raises it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    @hookimpl
    def weighbridge_admit(self, request: AdmissionRequest) -> Any:
        if isinstance(self.answer, type):
            raise self.answer("no stamp")
        return self.answer() if callable(self.answer) else self.answer


def test_a_policy_can_refuse(weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """Although there is no ceiling at all; its reason and advice are passed on."""
    package = temporary_plugin("good", IMPORTED)
    weighbridge_host.register("lenient", Policy(None))
    weighbridge_host.register("strict", Policy(Refused(reason="not in these shoes", advice="Change them")))
    with pytest.raises(AdmissionRefused) as caught:
        weighbridge_host.load("good")
    assert str(caught.value) == "good: refused: not in these shoes. Change them"
    assert package not in sys.modules


def test_a_policy_can_defer(weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """A refusal of another one weighs more."""
    temporary_plugin("good", IMPORTED)
    weighbridge_host.register("patient", Policy(Deferred(reason="not yet")))
    with pytest.raises(AdmissionDeferred) as caught:
        weighbridge_host.load("good")
    advice = "It is tried again when another plugin is unloaded, and when memory pressure is over"
    assert str(caught.value) == f"good: deferred: not yet. {advice}"
    weighbridge_host.register("strict", Policy(Refused(reason="never")))
    with pytest.raises(AdmissionRefused, match="never"):
        weighbridge_host.load("good")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (LookupError, "weighbridge_admit raised LookupError: 'no stamp'"),
        (SystemExit, "weighbridge_admit raised SystemExit: no stamp"),
        (KeyboardInterrupt, "weighbridge_admit raised KeyboardInterrupt: no stamp"),
        (42, "weighbridge_admit gave int; wanted Admitted, Deferred, Refused or None"),
    ],
)
def test_a_policy_that_fails_refuses(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, answer: Any, problem: str
) -> None:
    """Fail closed: a gate that falls open when it breaks is no gate. One may be registered to fail open."""
    if answer is LookupError:
        problem = problem.replace("'no stamp'", "no stamp")
    temporary_plugin("good", GOOD)
    weighbridge_host.register("strict", Policy(answer))
    with pytest.raises(AdmissionRefused) as caught:
        weighbridge_host.load("good")
    assert str(caught.value) == (
        f"good: refused: the policy 'strict' failed: {problem}. Mend or unload strict, or register it to fail open"
    )
    weighbridge_host.unregister("strict")
    weighbridge_host.register("strict", Policy(answer), fail_open=True)
    (outcome,) = weighbridge_host.load_all().loaded
    assert outcome.warnings == (f"the policy 'strict' failed: {problem}; it was registered to fail open",)


def test_a_policy_that_is_late_refuses(temporary_plugin: TemporaryPlugin) -> None:
    """All policies share one deadline, and those that were not asked because of it have not admitted."""
    answer = threading.Event()
    temporary_plugin("good", GOOD)
    with IsolatedHost(policy_seconds=0.05) as host:
        host.allow("good")
        host.register("slow", Policy(answer.wait))
        with pytest.raises(AdmissionRefused) as caught:
            host.load("good")
        assert str(caught.value) == (
            "good: refused: the policy 'slow' had not answered after 0.05 s. "
            "Mend or unload slow, or register it to fail open"
        )
        answer.set()
        host.unregister("slow")
        assert host.load("good").state == "active"


def test_a_plugin_may_be_a_policy(temporary_plugin: TemporaryPlugin, harbour: Any) -> None:
    """The host says by its name whether it may fail."""
    raising = HOOK + GOOD + "    @hookimpl\n    def weighbridge_admit(self):\n        raise LookupError('no stamp')\n"
    temporary_plugin("strict", raising)
    temporary_plugin("good", GOOD)
    with IsolatedHost() as host:
        host.allow("strict", "good")
        host.load("strict")
        with pytest.raises(AdmissionRefused):
            host.load("good")
        host.unload("strict")
        assert host.load("good").state == "active"
    with IsolatedHost(fail_open=["strict"]) as host:
        host.allow("strict", "good")
        host.load("strict")
        assert host.load("good").state == "active"


# -- accounts ------------------------------------------------------------------------------------------------------


def test_what_a_plugin_holds_is_on_its_account(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """123 * 1024 * 8 bytes are, within a few percent: the rest is its module."""
    expected = 123 * 1024 * 8
    temporary_plugin("holder", GOOD.replace("pass", f"self.cargo = bytearray({expected})"))
    account = weighbridge_host.load("holder")
    assert account.traced_bytes is not None
    assert expected < account.traced_bytes < 1.03 * expected
    assert account.held_bytes == account.traced_bytes
    assert (account.native_bytes, account.live_bytes, account.modules) == (0, None, 1)


def test_charges_and_reports_are_native_memory(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """By label; given back they are off the account, and a report that fails makes the figure unknown."""
    temporary_plugin(
        "holder",
        HOOK
        + "class Plugin:\n    def __init__(self, context):\n"
        + "        harbour.arena = context.charge(4000, 'arena')\n"
        + "        context.charge(500, 'arena')\n        context.charge(70, 'map')\n"
        + "    @hookimpl\n    def weighbridge_report_memory(self):\n        return harbour.reported\n",
    )
    harbour.reported = 8
    account = weighbridge_host.load("holder")
    assert account.traced_bytes is not None
    assert account.charges == {"arena": 4500, "map": 70}
    assert (account.native_bytes, account.held_bytes) == (4578, account.traced_bytes + 4578)
    harbour.arena.release()
    harbour.reported = 30
    after = weighbridge_host.account("holder")
    assert (after.charges, after.native_bytes) == ({"arena": 500, "map": 70}, 600)
    assert after.peak_bytes == account.held_bytes
    del harbour.reported
    assert weighbridge_host.account("holder").native_bytes is None


@pytest.fixture
def with_library(temporary_plugin: TemporaryPlugin) -> Callable[..., None]:
    """Installs plugins that import a library of 200 KiB, which is no plugin."""

    def install(*names: str) -> None:
        for name in names:
            files = {
                "__init__.py": "import weighbridge_library\n" + GOOD,
                "../weighbridge_library/__init__.py": "CARGO = bytearray(200 << 10)\n",
            }
            temporary_plugin(name, files)

    return install


def closes(statement: Statement) -> bool:
    """Whether the lines of a statement add up to what the process occupies."""
    lines = [statement.shared_bytes, statement.stdlib_bytes, statement.stranded_bytes, statement.unattributed_bytes]
    known = [line for line in lines if line is not None]
    return len(known) == 4 and sum(known) + sum(one.held_bytes for one in statement.plugins) == statement.usage_bytes


def test_modules_that_two_plugins_use_are_charged_once(
    weighbridge_host: IsolatedHost, with_library: Callable[..., None]
) -> None:
    """On the shared line; the last of the users is charged alone, and they go when it goes."""
    with_library("a", "b")
    alone = weighbridge_host.load("a")
    assert alone.traced_bytes is not None
    assert (alone.traced_bytes > 200 << 10, alone.shared_bytes) == (True, 0)
    second = weighbridge_host.load("b")
    statement = weighbridge_host.accounts()
    first = weighbridge_host.account("a")
    assert second.traced_bytes is not None
    assert first.traced_bytes is not None
    assert max(first.traced_bytes, second.traced_bytes) < 100 << 10
    assert first.shared_bytes == second.shared_bytes == statement.shared_bytes
    assert statement.shared_bytes is not None
    assert 200 << 10 < statement.shared_bytes < 210 << 10
    assert closes(statement)
    receipt = weighbridge_host.unload("a", dependencies=True)
    assert receipt.modules_kept == ("weighbridge_library (shared: with b)",)
    last = weighbridge_host.account("b")
    assert last.traced_bytes is not None
    assert (last.traced_bytes > 200 << 10, last.shared_bytes) == (True, 0)
    assert weighbridge_host.unload("b", dependencies=True).state == "unloaded"
    assert "weighbridge_library" not in sys.modules
    assert weighbridge_host.accounts().shared_bytes == 0


def test_a_dependency_that_nobody_asked_to_go_stays_on_the_books(
    weighbridge_host: IsolatedHost, with_library: Callable[..., None]
) -> None:
    """As nobody's; whoever loads it next finds it there, and is charged for it."""
    with_library("a", "b")
    weighbridge_host.load("a")
    receipt = weighbridge_host.unload("a")
    assert receipt.modules_kept == ("weighbridge_library (dependency: dependencies were not asked to go)",)
    shared = weighbridge_host.accounts().shared_bytes
    assert shared is not None
    assert shared > 200 << 10
    account = weighbridge_host.load("b")
    assert account.traced_bytes is not None
    assert account.traced_bytes > 200 << 10
    assert weighbridge_host.accounts().shared_bytes == 0
    weighbridge_host.unload("b", dependencies=True)
    assert "weighbridge_library" not in sys.modules


def test_a_dependency_that_the_application_refers_to_stays(
    weighbridge_host: IsolatedHost, with_library: Callable[..., None], harbour: Any
) -> None:
    """It would otherwise meet a second copy of it."""
    with_library("a")
    weighbridge_host.load("a")
    harbour.library = sys.modules["weighbridge_library"]
    receipt = weighbridge_host.unload("a", dependencies=True)
    assert len(receipt.modules_kept) == 1
    assert receipt.modules_kept[0].startswith("weighbridge_library (outside: ")
    assert sys.modules["weighbridge_library"] is harbour.library
    del sys.modules["weighbridge_library"]


def test_the_standard_library_has_a_line_of_its_own(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """Its modules stay when the plugin goes, and so does the line."""
    name = next(one for one in ("mailbox", "imaplib", "poplib", "pyclbr", "trace") if one not in sys.modules)
    temporary_plugin("reader", f"import {name}\n" + GOOD)
    account = weighbridge_host.load("reader")
    statement = weighbridge_host.accounts()
    assert account.traced_bytes is not None
    assert account.stdlib_bytes is not None
    assert account.stdlib_bytes > 10_000
    assert account.traced_bytes < account.stdlib_bytes / 5
    assert statement.stdlib_bytes == account.stdlib_bytes
    assert closes(statement)
    weighbridge_host.unload("reader", dependencies=True)
    assert name in sys.modules
    assert weighbridge_host.accounts().stdlib_bytes == account.stdlib_bytes


def test_what_nobody_can_be_charged_for_closes_the_sum(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, harbour: Any
) -> None:
    """To the byte, with everything there is: charges, shared modules, and a plugin that is stranded."""
    assert closes(weighbridge_host.accounts()) or weighbridge_host.plugins() == ()
    harbour.kept = []
    temporary_plugin("kept", "import harbour\n" + GOOD.replace("pass", "harbour.kept.append(self)"))
    temporary_plugin("charged", GOOD.replace("pass", "context.charge(12345, 'arena')"))
    temporary_plugin("plain", GOOD)
    weighbridge_host.load_all()
    assert weighbridge_host.unload("kept").state == "stranded"
    statement = weighbridge_host.accounts()
    assert statement.stranded_bytes > 0
    assert [one.plugin for one in statement.plugins] == ["charged", "plain"]
    assert closes(statement)


@pytest.fixture
def shallow_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block is traced, but not as deep as it would be: that is slow above pytest's own frames."""
    monkeypatch.setitem(cast("dict[str, Any]", METERS), "trace", partial(TraceMeter, frames=8))


@pytest.mark.usefixtures("shallow_traces")
@pytest.mark.parametrize("meter", ["process", "gate", "trace"])
def test_tracing_is_left_as_it_was_found(temporary_plugin: TemporaryPlugin, meter: Any) -> None:
    """On if the application had it on, off otherwise; also after a load that failed."""
    temporary_plugin("good", GOOD)
    temporary_plugin("bad", "raise RuntimeError")
    assert not tracemalloc.is_tracing()
    for tracing in (False, True):
        if tracing:
            tracemalloc.start()
        try:
            with IsolatedHost(meter=meter) as host:
                host.allow("good", "bad")
                assert host.load_all().loaded
                assert tracemalloc.is_tracing() is (tracing or meter == "trace")
            assert tracemalloc.is_tracing() is tracing
        finally:
            tracemalloc.stop()


def test_without_tracing_the_figures_are_unknown(temporary_plugin: TemporaryPlugin) -> None:
    """Not 0; what counts against the promise is then by how much the process grew."""
    temporary_plugin("good", GOOD.replace("pass", "self.cargo = b'x' * (20 << 20)"))
    with IsolatedHost(meter="process") as host:
        host.allow("good")
        account = host.load("good")
        assert (account.traced_bytes, account.shared_bytes, account.stdlib_bytes) == (None, None, None)
        assert account.resident_bytes > 15 * MIB
        assert host.accounts().unattributed_bytes is None


STORING: Final = (
    HOOK
    + GOOD.replace("pass", "self.cargo = []")
    + "    @hookimpl\n    def store(self, nbytes):\n"
    + "        self.cargo = [bytearray(nbytes)] if nbytes else []\n"
)


@pytest.fixture
def tracing(temporary_plugin: TemporaryPlugin, harbour: Any, shallow_traces: None) -> Iterator[IsolatedHost]:
    """A host that traces all the time."""
    with IsolatedHost(meter="trace") as host:
        host.add_hookspecs(Trade)
        harbour.host = host
        yield host


def test_tracing_follows_growth(tracing: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """An account that is drawn later has what the plugin holds then, and the highest that was seen."""
    temporary_plugin("holder", STORING)
    tracing.allow("holder")
    before = tracing.load("holder").live_bytes
    tracing.hook.store(nbytes=2 * MIB)
    grown = tracing.account("holder")
    tracing.hook.store(nbytes=0)
    shrunk = tracing.account("holder")
    assert before is not None
    assert grown.live_bytes is not None
    assert shrunk.live_bytes is not None
    assert before < 50_000
    assert 2 * MIB < grown.live_bytes < 2 * MIB + 50_000
    assert shrunk.live_bytes < 50_000
    assert shrunk.peak_bytes == grown.held_bytes == grown.live_bytes


def test_the_innermost_plugin_is_charged(tracing: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """Whoever allocates pays, not whoever called it."""
    temporary_plugin("holder", STORING)
    temporary_plugin(
        "broker",
        HOOK + GOOD + "    @hookimpl\n    def relay(self, nbytes):\n        harbour.host.hook.store(nbytes=nbytes)\n",
    )
    tracing.allow("holder", "broker")
    tracing.load_all()
    tracing.hook.relay(nbytes=MIB)
    held = {one.plugin: one.live_bytes or 0 for one in tracing.accounts().plugins}
    assert held["holder"] > MIB
    assert held["broker"] < 50_000


def test_what_came_back_is_measured(tracing: IsolatedHost, temporary_plugin: TemporaryPlugin) -> None:
    """Where tracing was on from before the load, the receipt says how much, and which share that is."""
    temporary_plugin("holder", GOOD.replace("pass", f"self.cargo = bytearray({4 * MIB})"))
    tracing.allow("holder")
    account = tracing.load("holder")
    receipt = tracing.unload("holder")
    assert account.traced_bytes is not None
    assert receipt.traced_before_bytes is not None
    assert receipt.traced_after_bytes is not None
    assert receipt.reclaimed_bytes == receipt.traced_before_bytes - receipt.traced_after_bytes
    # the host remembers a little of what it did for the first time
    assert 4 * MIB - 10_000 < receipt.reclaimed_bytes < 4 * MIB + 100_000
    assert receipt.reclaimed_share is not None
    assert 0.99 < receipt.reclaimed_share < 1.02


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="the process's own figure has no second source here")
def test_usage_is_what_the_system_says(weighbridge_host: IsolatedHost) -> None:
    """The resident set, read directly, is what psutil reads."""
    usage = weighbridge_host.accounts().usage_bytes
    assert abs(usage - psutil.Process().memory_info().rss) < 8 * MIB
