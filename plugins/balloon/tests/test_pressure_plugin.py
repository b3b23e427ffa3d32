"""The plugin as its host sees it: what it leases, what it answers, and what it offers to others."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from weighbridge_hookspecs import (
    AdmissionRequest,
    Candidate,
    ConfigurationError,
    Lease,
    PluginContext,
    Refused,
    ReleaseRequest,
    StopToken,
)
from weighbridge_hookspecs.records import PressureLevel

from weighbridge_balloon import Balloon
from weighbridge_balloon.control import PressureControl
from weighbridge_balloon.driver import Driver
from weighbridge_balloon.settings import PressureSettings, read_settings

MIB = 1024 * 1024
LOG = logging.getLogger("balloon.test")
OFF = {"notify": False, "poll_seconds": 0, "cpuid": False}


class Charge:
    """Bytes on an account."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes

    def release(self) -> None:
        self.nbytes = 0


class Context:
    """As much of a ``PluginContext`` as the plugin uses; it writes down what was leased."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self.log = LOG
        self.threads: list[Callable[[StopToken], object]] = []
        self.relieved: list[tuple[int, PressureLevel]] = []
        self.charges: list[Charge] = []

    def spawn(self, run: Callable[[StopToken], object], *, name: str) -> None:
        self.threads.append(run)

    def charge(self, nbytes: int, label: str) -> Charge:
        charge = Charge(nbytes)
        self.charges.append(charge)
        return charge

    def relieve(self, nbytes: int, *, level: PressureLevel = "elevated") -> int:
        self.relieved.append((nbytes, level))
        return nbytes


class Registry:
    """As much of ``Capabilities`` as the plugin uses."""

    def __init__(self) -> None:
        self.provided: dict[str, Any] = {}

    def register(self, name: str, provided: object, *, evidence: str, details: Mapping[str, str]) -> None:
        assert evidence
        self.provided[name] = provided


def request() -> AdmissionRequest:
    candidate = Candidate(name="x", group="weighbridge", value="x:X", distribution="x", version="1")
    return AdmissionRequest(candidate=candidate, estimate_bytes=MIB, estimate_source="declared")


def load(context: Context) -> tuple[Balloon, Driver]:
    plugin, registry = Balloon(cast(PluginContext, context)), Registry()
    plugin.weighbridge_capabilities(cast(Any, registry))
    plugin.weighbridge_activate()
    return plugin, registry.provided["balloon"]


def pressure_of(driver: Driver) -> PressureControl:
    assert driver.pressure is not None
    return driver.pressure


@pytest.fixture
def driver() -> Iterator[PressureControl]:
    plugin, found = load(Context(OFF))
    yield pressure_of(found)
    plugin.weighbridge_deactivate("the test is over")


def test_it_takes_one_thread_at_most() -> None:
    """For everything that there is to watch; none where everything is off. It ends when the plugin is deactivated."""
    quiet = Context(OFF)
    load(quiet)[0].weighbridge_deactivate("off")
    assert quiet.threads == []
    context = Context({"poll_seconds": 0.05, "cpuid": False})
    plugin, _ = load(context)
    assert len(context.threads) <= 1
    threads = [threading.Thread(target=run, args=(threading.Event(),)) for run in context.threads]
    for thread in threads:
        thread.start()
    plugin.weighbridge_deactivate("the test is over")
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_host_is_asked_after_the_handlers(driver: PressureControl) -> None:
    """What handlers cannot give, the host's plugins may."""
    context = Context(OFF)
    plugin, found = load(context)
    control = pressure_of(found)
    lease = control.register_pressure_handler(lambda nbytes: MIB)
    receipt = control.release_memory(5 * MIB)
    assert receipt is not None
    assert [effort.believed_bytes for effort in receipt.efforts] == [MIB, 4 * MIB]
    assert context.relieved == [(4 * MIB, "elevated")]
    lease.release()
    plugin.weighbridge_deactivate("the test is over")


@pytest.mark.parametrize("wrong", [-1, True, 1.5, "5 MiB"])
def test_what_is_no_number_of_bytes_is_not_released(wrong: Any) -> None:
    """The error says what it was, and nobody is asked."""
    context = Context(OFF)
    plugin, found = load(context)
    for ask in (pressure_of(found).release_memory, pressure_of(found).report_memory_released):
        with pytest.raises(ValueError, match="is nothing to release: give a number of bytes from 0 up"):
            ask(wrong)
    assert context.relieved == []
    plugin.weighbridge_deactivate("the test is over")


def test_host_that_asks_is_not_asked_back() -> None:
    """The hook releases what handlers and caches have, and no more."""
    context = Context(OFF)
    plugin, found = load(context)
    cache = pressure_of(found).slab_cache(8 * MIB)
    for number in range(30):
        cache.put(number, b"x" * 200_000)
    assert 3 * MIB <= plugin.weighbridge_release_memory(ReleaseRequest(bytes=3 * MIB)) <= 4 * MIB
    assert plugin.weighbridge_release_memory(ReleaseRequest(bytes=100 * MIB)) <= 4 * MIB
    assert len(cache) == 0
    assert context.relieved == []
    plugin.weighbridge_deactivate("the test is over")


def test_cache_of_nobody_is_on_the_drivers_account() -> None:
    """And one that comes with an account is on that."""
    context, other = Context(OFF), Context(OFF)
    plugin, found = load(context)
    control = pressure_of(found)
    cache = control.slab_cache(4 * MIB)
    cache.put("key", b"x")
    assert [charge.nbytes for charge in context.charges] == [2 * MIB]
    control.slab_cache(4 * MIB, charge=other.charge).put("key", b"x")
    assert (len(context.charges), len(other.charges)) == (1, 1)
    assert other.charges[0].nbytes == 0, "a cache that was dropped is on no account"
    cache.release()
    assert context.charges[0].nbytes == 0
    plugin.weighbridge_deactivate("the test is over")


def test_cache_is_asked_for_as_long_as_it_is_held(driver: PressureControl) -> None:
    """One that was dropped, or given back, is not."""
    kept, dropped, released = (driver.slab_cache(4 * MIB) for _ in range(3))
    for cache in (kept, dropped, released):
        cache.put("key", b"x" * MIB)
    released.release()
    del dropped, cache
    believed = driver.release_own(100 * MIB)
    assert MIB <= believed <= 2 * MIB
    assert kept.get("key") is None


def test_facts_name_what_is_looked_at() -> None:
    """Each subject once, with evidence; those of the detector beside those of pressure."""
    plugin, _ = load(Context(OFF))
    facts = plugin.weighbridge_examine()
    subjects = [fact.subject for fact in facts]
    assert len(set(subjects)) == len(subjects)
    assert {"memory pressure", "balloon size", "balloon target", "free in large blocks"} <= set(subjects)
    assert all(fact.evidence for fact in facts)
    plugin.weighbridge_deactivate("the test is over")


def test_setting_that_makes_no_sense_stops_the_load() -> None:
    """Before anything is watched."""
    with pytest.raises(ConfigurationError, match="poll_seconds is -1"):
        Balloon(cast(PluginContext, Context({"poll_seconds": -1})))


# -- a machine that is short of memory ---------------------------------------------------------------------------------


def machine(root: Path, *, available: int, balloon: int = 0, target: int | None = None) -> Path:
    """Files of a Xen domain, sizes in MiB."""
    files = {
        "proc/meminfo": f"MemTotal: {1024 * 1024} kB\nMemFree: {available * 1024} kB\n"
        f"MemAvailable: {available * 1024} kB\nBalloon: {balloon * 1024} kB\n",
    }
    if target is not None:
        xen = "sys/devices/system/xen_memory/xen_memory0"
        files |= {f"{xen}/info/current_kb": f"{1024 * 1024}\n", f"{xen}/target_kb": f"{target * 1024}\n"}
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
    return root


class Watched:
    """A control on a generated machine, whose looks are made by the test."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.levels: list[tuple[int, PressureLevel]] = []
        self.control = PressureControl(
            read_settings({"notify": False, "reserve_bytes": 64 * MIB, **settings}),
            log=LOG,
            relay=self._relay,
            root=root,
            environ={},
        )

    def _relay(self, nbytes: int, level: PressureLevel) -> int:
        self.levels.append((nbytes // MIB, level))
        return 0

    def look_once(self) -> None:
        """One turn of the thread."""

        class Once:
            turns = 0

            def is_set(self) -> bool:
                self.turns += 1
                return self.turns > 1

            def wait(self, timeout: float | None = None) -> bool:
                return False

        assert self.control.open()
        self.control.run(Once())


def test_hypervisors_wish_reaches_the_host(tmp_path: Path) -> None:
    """What it wants, and the reserve, less what is available; everybody behind the host is asked for it."""
    here = Watched(machine(tmp_path, available=100, target=824))
    here.look_once()
    assert here.levels == [(164, "elevated")]
    assert here.control.bytes_to_release() == 164 * MIB
    (receipt,) = here.control.receipts()
    assert (receipt.asked_bytes, receipt.missing_bytes) == (164 * MIB, 164 * MIB)
    assert "the hypervisor wants 200.0 MiB more" in receipt.reason
    assert here.control.statistics().level == "elevated"
    here.control.close()


def test_nearly_nothing_left_is_critical(tmp_path: Path) -> None:
    """The host hears of it."""
    here = Watched(machine(tmp_path, available=5))
    here.look_once()
    assert here.levels == [(59, "critical")]
    here.control.close()


def test_short_machine_lets_nobody_in(tmp_path: Path) -> None:
    """The verdict has the machine's figures; when it is no longer short, there is none."""
    here = Watched(machine(tmp_path, available=10))
    verdict = here.control.verdict(request())
    assert isinstance(verdict, Refused)
    assert (verdict.needs_bytes, verdict.headroom_bytes) == (MIB, 0)
    assert "10.0 MiB are available" in verdict.reason
    machine(tmp_path, available=500)
    assert here.control.verdict(request()) is None
    here.control.close()


def test_machine_that_shows_nothing_refuses_nobody(tmp_path: Path) -> None:
    """And releases nothing: what cannot be known is no reason."""
    here = Watched(tmp_path)
    here.look_once()
    assert here.control.verdict(request()) is None
    assert here.levels == []
    assert here.control.bytes_to_release() is None
    findings = {fact.subject: fact.finding for fact in here.control.facts()}
    assert findings["balloon size"] is None
    assert findings["free in large blocks"] is None
    here.control.close()


def test_bare_metal_is_not_looked_at_again_and_again(tmp_path: Path) -> None:
    """Where it is known that there is no balloon, and nobody tells of pressure, there is nothing to do."""
    control = PressureControl(PressureSettings(), log=LOG, root=machine(tmp_path, available=500), environ={})
    assert not control.open(may_have_balloon=False)
    assert control.open(may_have_balloon=True)
    control.close()


def test_report_of_a_release_is_measured(tmp_path: Path) -> None:
    """What a plugin released by itself: what it says beside what the machine shows."""
    root = machine(tmp_path, available=100)
    control = PressureControl(PressureSettings(), log=LOG, root=root, environ={})
    before = control.look()
    machine(tmp_path, available=130, balloon=10)
    receipt = control.report_memory_released(50 * MIB, before=before)
    assert receipt is not None
    assert (receipt.asked_bytes, receipt.freed_bytes, receipt.hypervisor_bytes) == (50 * MIB, 40 * MIB, None)
    control.close()


def test_lease_of_a_handler_is_a_lease(driver: PressureControl) -> None:
    """As the contract has it."""
    lease: Lease = driver.register_pressure_handler(lambda nbytes: 0)
    lease.release()
