"""The tutorial on embedding the host, run."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from weighbridge_hookspecs import (
    AdmissionDeferred,
    AdmissionRefused,
    Admitted,
    Event,
    LoadFailed,
    UnloadRefused,
    UnloadTimeout,
    hookimpl,
    hookspec,
)

from weighbridge import Host, format_bytes
from weighbridge.isolation import IsolatedHost
from weighbridge.testing import TemporaryPlugin

log = logging.getLogger("harbour")
HERE = Path(__file__).parent
EMPTY = "class Plugin:\n    def __init__(self, context):\n        pass\n"
HEAVY = '[memory]\nload = "64 GiB"\n'
SLEEPY = '[plugin]\nactivation = "first-call"\nhooks = ["harbour_price"]\n'
LARGE = '[memory]\nload = "2500 MiB"\npeak = "2500 MiB"\n'


@pytest.fixture(autouse=True)
def _like_a_fresh_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("WEIGHBRIDGE_CEILING", raising=False)
    monkeypatch.delenv("WEIGHBRIDGE_DISABLED_PLUGINS", raising=False)


@pytest.fixture
def install(temporary_plugin: TemporaryPlugin) -> TemporaryPlugin:
    temporary_plugin("crane", sample("crane"), attribute="Crane")
    return temporary_plugin


def sample(name: str) -> str:
    return (HERE / f"sample_{name}.py").read_text(encoding="utf-8")


# snippet: specs
class HarbourSpecs:
    """The hooks of this application."""

    @hookspec
    def harbour_price(self, tonnes: float) -> float | None:
        """Price of handling a load; None from a plugin that does not handle it."""


# end snippet


def test_embed(install: TemporaryPlugin) -> None:
    """A host is a context manager; its relay calls every loaded plugin that implements a hook."""
    # snippet: embed
    with Host("4 GiB", settings={"crane": {"rate": 20.0}}) as host:
        host.add_hookspecs(HarbourSpecs)
        host.load("crane")
        prices = host.hook.harbour_price(tonnes=3.0)
        assert prices == [60.0]
    # end snippet


def test_everything_at_once(install: TemporaryPlugin) -> None:
    """A report has a heading for each way in which a load can end, and one that fails never stops the others."""
    install("anvil", EMPTY, manifest=HEAVY)
    with Host("4 GiB") as host:
        names = ["crane", "anvil"]
        # snippet: load-all
        report = host.load_all(names)
        assert [outcome.name for outcome in report.loaded] == ["crane"]
        assert [outcome.name for outcome in report.refused] == ["anvil"]
        for outcome in (*report.deferred, *report.refused, *report.failed):
            log.warning("not loaded: %s", outcome.reason)
        # end snippet


def test_ask_before_loading(install: TemporaryPlugin) -> None:
    """A dry run gives the verdict and changes nothing."""
    with Host("4 GiB") as host:
        # snippet: ask
        verdict = host.ask("crane")
        assert isinstance(verdict, Admitted)
        # end snippet
        assert [one.state for one in host.plugins() if one.name == "crane"] == ["discovered"]


def test_refusal(install: TemporaryPlugin, caplog: pytest.LogCaptureFixture) -> None:
    """A refusal says what was needed, what there was, and what would help."""
    install("anvil", EMPTY, manifest=HEAVY)
    with Host("4 GiB") as host:
        # snippet: refusal
        try:
            host.load("anvil")
        except AdmissionRefused as refusal:
            needs, room = format_bytes(refusal.needs_bytes), format_bytes(refusal.headroom_bytes)
            log.warning("%s needs %s, and there are %s. %s", refusal.plugin, needs, room, refusal.advice)
        # end snippet
        assert "anvil needs 64.0 GiB, and there are " in caplog.text
        assert "Raise the ceiling to " in caplog.text


def test_failure(install: TemporaryPlugin, caplog: pytest.LogCaptureFixture) -> None:
    """A plugin that raises is undone, and the error has its traceback as text."""
    install("broken", "raise ValueError('out of order')\n")
    with Host() as host:
        # snippet: failure
        try:
            host.load("broken")
        except LoadFailed as failure:
            log.warning("%s failed at the step %s: %s", failure.plugin, failure.step, failure.cause)
            log.debug(failure.traceback)
            for line in failure.residue:
                log.error("not undone: %s", line)
        # end snippet
        assert "broken failed at the step import: ValueError: out of order" in caplog.text
        assert "not undone" not in caplog.text


def test_containment(install: TemporaryPlugin, caplog: pytest.LogCaptureFixture) -> None:
    """The others answer, and the fault is counted and logged."""
    install(
        "leaky", sample("crane").replace("return tonnes * self._rate", "raise ValueError(tonnes)"), attribute="Crane"
    )
    # snippet: contain
    with Host(on_hook_error="contain", hook_error_limit=5, hook_error_window_seconds=60.0) as host:
        host.add_hookspecs(HarbourSpecs)
        host.load("crane")
        host.load("leaky")  # raises whenever it is asked for a price
        assert host.hook.harbour_price(tonnes=3.0) == [37.5]
        assert host.statistics().hook_errors == {"leaky": 1}
    # end snippet
    assert "leaky: harbour_price raised" in caplog.text


def test_deferral(install: TemporaryPlugin, caplog: pytest.LogCaptureFixture) -> None:
    """A deferred plugin comes in when another goes."""
    install("barge", EMPTY, manifest=LARGE)
    install("tanker", EMPTY, manifest=LARGE)
    # snippet: deferral
    with Host("4 GiB") as host:
        host.load("barge")  # promised: 2500 MiB at most
        try:
            host.load("tanker", defer=True, priority=10)
        except AdmissionDeferred as deferral:
            log.warning("%s waits: %s", deferral.plugin, deferral.message)
        host.unload("barge")
        assert host.account("tanker").state == "active"
    # end snippet
    assert "tanker waits: deferred: no room" in caplog.text


def test_observer(install: TemporaryPlugin) -> None:
    """The application itself may implement hooks of the contract."""

    # snippet: observer
    class Log:
        @hookimpl
        def weighbridge_event(self, event: Event) -> None:
            log.info("%s: %s (%s)", event.plugin, event.state or event.kind, event.reason)

    with Host() as host:
        host.register("log", Log())
        # end snippet
        host.unregister("log")


def test_accounts(install: TemporaryPlugin) -> None:
    """The lines of a statement add up to what the process occupies."""
    with Host() as host:
        host.load("crane")
        # snippet: accounts
        statement = host.accounts()
        for account in statement.plugins:
            log.info("%s holds %s", account.plugin, format_bytes(account.held_bytes))
        if statement.unattributed_bytes is not None:
            assert statement.shared_bytes is not None
            assert statement.stdlib_bytes is not None
            assert statement.usage_bytes == (
                sum(account.held_bytes for account in statement.plugins)
                + statement.shared_bytes
                + statement.stdlib_bytes
                + statement.stranded_bytes
                + statement.unattributed_bytes
            )
        # end snippet
        assert statement.unattributed_bytes is not None


def test_unload(install: TemporaryPlugin) -> None:
    """An unload returns a receipt."""
    with Host() as host:
        host.load("crane")
        # snippet: unload
        receipt = host.unload("crane", reason="the season is over")
        assert receipt.state == "unloaded"
        assert receipt.survivors == ()
        assert receipt.modules_dropped == 1
        # end snippet
        assert host.receipts["crane"] is receipt


def test_stranded(install: TemporaryPlugin) -> None:
    """What outlived a plugin is named with what holds it, and is looked at again."""
    install("moth", sample("moth"), attribute="Moth")
    with Host() as host:
        host.load("moth")
        # snippet: stranded
        receipt = host.unload("moth")
        assert receipt.state == "stranded"
        [dust] = [one for one in receipt.survivors if one.kind == "class" and one.name.endswith("Dust")]
        assert dust.tie == "logging.root"

        del vars(logging.getLogger())["dust"]  # somebody reads the tie, and cuts it
        assert host.look_again() == ("moth",)
        # end snippet


class Tide:
    """Lets a call of a hook wait inside of the plugin."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.turn = threading.Event()

    def wait(self) -> float:
        self.arrived.set()
        self.turn.wait()
        return 1.0


WAITING = """
from weighbridge_hookspecs import hookimpl

class Plugin:
    def __init__(self, context):
        pass

    @hookimpl
    def harbour_wait(self, tide):
        return tide.wait()
"""


class WaitingSpecs:
    @hookspec
    def harbour_wait(self, tide: Tide) -> float | None:
        """Wait for the tide."""


def test_timeout(install: TemporaryPlugin, caplog: pytest.LogCaptureFixture) -> None:
    """A plugin in which a thread is at work stays active, and the error says where the thread is."""
    install("ferry", WAITING)
    tide = Tide()
    with Host() as host:
        host.add_hookspecs(WaitingSpecs)
        host.load("ferry")
        thread = threading.Thread(target=lambda: host.hook.harbour_wait(tide=tide), name="passenger")
        thread.start()
        tide.arrived.wait()
        try:
            # snippet: timeout
            try:
                host.unload("ferry", deadline_seconds=0.1)
            except UnloadTimeout as timeout:
                for line in timeout.inside:
                    log.warning("still inside: %s", line)
            assert host.account("ferry").state == "active"
            # end snippet
            assert "still inside: thread 'passenger' at " in caplog.text
        finally:
            tide.turn.set()
            thread.join()


def test_dependents(install: TemporaryPlugin, caplog: pytest.LogCaptureFixture) -> None:
    """Those that require a plugin go first, or are a reason to refuse."""
    install("hoist", EMPTY, manifest='[plugin]\nrequires = ["crane"]\n')
    with Host() as host:
        # snippet: dependents
        host.load("hoist")  # its manifest says: requires = ["crane"]
        assert host.account("crane").state == "active"
        try:
            host.unload("crane", cascade=False)
        except UnloadRefused as refusal:
            log.warning("%s", refusal)
        receipt = host.unload("crane")
        assert [one.plugin for one in receipt.also_unloaded] == ["hoist"]
        # end snippet
        assert "crane: is required by hoist" in caplog.text


def test_reload(install: TemporaryPlugin) -> None:
    """A reload unloads, looks for plugins anew, and loads again."""
    with Host() as host:
        host.load("crane")
        # snippet: reload
        account = host.reload("crane")
        assert account.state == "active"
        assert host.receipts["crane"].state == "unloaded"
        # end snippet


def test_dormant(install: TemporaryPlugin) -> None:
    """A plugin that sleeps is imported by the first call of one of its hooks."""
    install("tug", sample("crane"), attribute="Crane", manifest=SLEEPY)
    with Host() as host:
        # snippet: dormant
        host.add_hookspecs(HarbourSpecs)
        report = host.load_all(["tug"])
        assert [outcome.name for outcome in report.dormant] == ["tug"]
        assert "weighbridge_tug" not in sys.modules
        assert host.hook.harbour_price(tonnes=2.0) == [25.0]
        assert host.account("tug").state == "active"
        # end snippet


def test_other_group(install: TemporaryPlugin) -> None:
    """A plugin of another group is weighed and unloaded, and never called."""
    install("lathe", "TOOLS = [bytearray(1000) for _ in range(100)]\n", attribute="", group="workshop.tools")
    # snippet: opaque
    with Host(group="workshop.tools") as host:
        account = host.load("lathe")
        assert account.traced_bytes is not None
        assert account.traced_bytes > 100_000
        assert account.leases == {}
        receipt = host.unload("lathe")
        assert receipt.state == "unloaded"
    # end snippet


def test_isolated_host_of_an_application(weighbridge_host: IsolatedHost, install: TemporaryPlugin) -> None:
    """An application tests its own hooks with a host that finds what the test names."""
    # snippet: isolated
    weighbridge_host.add_hookspecs(HarbourSpecs)
    weighbridge_host.allow("crane")
    weighbridge_host.load("crane")
    assert weighbridge_host.hook.harbour_price(tonnes=2.0) == [25.0]
    # end snippet


def test_statistics(install: TemporaryPlugin) -> None:
    """A host counts what it did."""
    with Host() as host:
        host.load("crane")
        host.unload("crane")
        # snippet: statistics
        statistics = host.statistics()
        assert (statistics.loads, statistics.unloads, statistics.stranded) == (1, 1, 0)
        # end snippet
        states: Any = statistics.states
        assert states["unloaded"] == 1
