"""A host that keeps its process under a ceiling: what it does for it, and what it does not do unless it is asked."""

from __future__ import annotations

import gc
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from weighbridge_hookspecs import (
    AdmissionDeferred,
    AdmissionRefused,
    CeilingExceeded,
    ConfigurationError,
    Event,
    Refused,
    UnloadTimeout,
    hookimpl,
)

from weighbridge import Host, MemorySettings, limits
from weighbridge.accounting.process import ProcessMemory, trim
from weighbridge.isolation import IsolatedHost
from weighbridge.limits import OutsideLimits
from weighbridge.testing import TemporaryPlugin

MIB = 1 << 20
FOREVER = 3600.0

HOARDER = """
from weighbridge_hookspecs import hookimpl

class Plugin:
    def __init__(self, context):
        self.context = context
        self.cache = context.cache(1000, 1 << 40)
        self.asked = []

    def hoard(self, mebibytes):
        for number in range(mebibytes):
            self.cache.put(object(), b"x" * (1 << 20), nbytes=1 << 20)

    @hookimpl
    def weighbridge_release_memory(self, request):
        self.asked.append((request.bytes, request.level))
        return self.cache.trim(request.bytes)
"""
EMPTY = "class Plugin:\n    def __init__(self, context):\n        self.context = context\n"


def settings(room: int, threshold: float = 0.999, **others: Any) -> MemorySettings:
    """A ceiling of so many MiB more than the process occupies now; nobody checks unless the test does."""
    gc.collect()
    trim()
    ceiling = ProcessMemory().resident_bytes() + room * MIB
    options = {"check_seconds": FOREVER, "follow_limits": False, "pressure_threshold": threshold, **others}
    return MemorySettings(ceiling_bytes=ceiling, enabled=True, **options)


Make = Callable[..., IsolatedHost]
Stuck = tuple[IsolatedHost, threading.Event]


@pytest.fixture
def make(temporary_plugin: TemporaryPlugin) -> Iterator[Make]:
    """Makes a bounded host with the plugins of these sources."""
    hosts: list[IsolatedHost] = []

    def make(memory: MemorySettings, **sources: str) -> IsolatedHost:
        for name, source in sources.items():
            manifest = '[plugin]\nsummary = "for a test"\n[memory]\nload = "1 KiB"\n'
            temporary_plugin(name, source, manifest=manifest)
        host = IsolatedHost(memory=memory)
        host.allow(*sources)
        hosts.append(host)
        return host

    yield make
    for host in hosts:
        host.close()


def thing(host: Host, name: str) -> Any:
    return host._roster[name].thing


class Listener:
    """Keeps what is told of pressure."""

    def __init__(self) -> None:
        self.levels: list[str | None] = []
        self.released: list[int | None] = []

    @hookimpl
    def weighbridge_event(self, event: Event) -> None:
        if event.kind == "pressure":
            self.levels.append(event.level)
        elif event.kind == "release":
            self.released.append(event.bytes)


# --- unless it is asked -----------------------------------------------------------------------------------------------


def test_without_settings_there_is_no_thread_no_limit_and_no_pool(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """Buffers are allocated plainly, and nobody looks at anything."""
    before = threading.active_count()
    temporary_plugin("lamp", EMPTY)
    weighbridge_host.load("lamp")
    buffers = thing(weighbridge_host, "lamp").context.buffers
    with buffers.rent(64 * 1024):
        pass
    assert buffers.statistics().dropped == 1
    assert buffers.ceiling.ceiling_bytes is None
    assert threading.active_count() == before
    assert weighbridge_host.check_memory() is None
    assert weighbridge_host.statistics().memory is None
    assert weighbridge_host.ceiling_bytes is None


def test_the_timer_goes_with_the_host() -> None:
    """Closed or just dropped."""
    before = threading.active_count()
    with IsolatedHost(memory=settings(100)) as host:
        assert threading.active_count() == before + 1
        assert host.statistics().services.schedule.timers == 1
    assert _settles(lambda: threading.active_count() == before)
    host = IsolatedHost(memory=settings(100))
    gone = weakref.ref(host)
    del host
    assert gone() is None
    assert _settles(lambda: threading.active_count() == before)


def _settles(claim: Callable[[], bool]) -> bool:
    """Whether it comes true: the timer thread needs a moment to see that there are no timers."""
    for _ in range(1000):
        if claim():
            return True
        time.sleep(0.005)
    return False


# --- which ceiling ----------------------------------------------------------------------------------------------------


def test_the_argument_goes_before_the_operator_and_he_before_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is nearest to the call decides, as with a host that nobody bounds."""
    memory = MemorySettings(ceiling_bytes=3 << 40, enabled=True, follow_limits=False, check_seconds=FOREVER)
    with Host(memory=memory) as host:
        assert host.ceiling_bytes == 3 << 40
    monkeypatch.setenv("WEIGHBRIDGE_CEILING", "2048 GiB")
    with Host(memory=memory) as host:
        assert host.ceiling_bytes == 2 << 40
    with Host(1 << 40, memory=memory) as host:
        assert host.ceiling_bytes == 1 << 40
        budget = host.budget()
        assert budget is not None
        assert budget.ceiling_bytes == 1 << 40


def test_a_limit_of_the_system_is_followed_while_it_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Make
) -> None:
    """A container that is made smaller or larger at run time is seen at the next check, by admission and by buffers."""
    group = tmp_path / "sys/fs/cgroup/app"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/app\n")
    (tmp_path / "proc/self/mountinfo").write_text(
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
    )
    (group / "memory.max").write_text("max\n")
    monkeypatch.setattr(limits, "OutsideLimits", lambda: OutsideLimits(tmp_path))
    host = make(settings(1 << 20, follow_limits=True), lamp=EMPTY)
    host.load("lamp")
    own = host.ceiling_bytes
    assert own is not None
    pool = thing(host, "lamp").context.buffers
    limit = ProcessMemory().resident_bytes() + 8 * MIB
    (group / "memory.max").write_text(f"{limit}\n")
    with pool.rent(12 * MIB):
        pass
    statistics = host.check_memory()
    assert statistics is not None
    assert (host.ceiling_bytes, pool.ceiling.ceiling_bytes, statistics.own_ceiling_bytes) == (limit, limit, own)
    assert (statistics.outside_limit_bytes, statistics.outside_limit_source) == (limit, str(group / "memory.max"))
    with pytest.raises(CeilingExceeded, match=f"the ceiling is {limit}"):
        pool.rent(12 * MIB)
    (group / "memory.max").write_text("max\n")
    host.check_memory()
    with pool.rent(12 * MIB):
        assert host.ceiling_bytes == own


@pytest.mark.parametrize("memory", [True, {"enabled": True}, "128 MiB", MemorySettings])
def test_settings_of_another_kind_are_refused(memory: Any) -> None:
    """With what to give."""
    with pytest.raises(ConfigurationError, match=r"memory makes no sense: .* Give weighbridge\.MemorySettings"):
        IsolatedHost(memory=memory)


# --- what it does -----------------------------------------------------------------------------------------------------


def test_above_the_threshold_plugins_give_back_what_they_cached(make: Make) -> None:
    """Really: the resident set is below the threshold by a sixteenth, and observers have heard of it."""
    host = make(settings(100, threshold=0.6), hoarder=HOARDER)
    listener = Listener()
    host.register("listener", listener)
    host.load("hoarder")
    hoarder = thing(host, "hoarder")
    statistics = host.check_memory()
    assert statistics is not None
    needed = (statistics.threshold_bytes - statistics.usage_bytes) // MIB + 20
    hoarder.hoard(needed)
    statistics = host.check_memory()
    assert statistics is not None
    assert (statistics.level, statistics.reactions) == ("nominal", 1)
    assert statistics.usage_bytes <= statistics.threshold_bytes * 15 // 16
    reaction = host.statistics().last_reaction
    assert reaction is not None
    nbytes, level = hoarder.asked[0]
    assert (level, nbytes >= 20 * MIB) == ("elevated", True)
    assert reaction.believed_bytes["hoarder"] >= nbytes
    assert reaction.freed_bytes > nbytes // 2
    assert listener.levels == ["elevated", "nominal"]
    assert listener.released == [reaction.freed_bytes]


def test_a_process_that_cannot_be_relieved_takes_nobody_in(make: Make) -> None:
    """Refused with the figures, or deferred; and loaded, in a thread of its own, once the pressure is over."""
    host = make(settings(200, threshold=0.5), first=EMPTY, second=EMPTY)
    statistics = host.statistics().memory
    assert statistics is not None
    cargo = [b"x" * MIB for _ in range((statistics.threshold_bytes - statistics.usage_bytes) // MIB + 20)]
    statistics = host.check_memory()
    assert statistics is not None
    assert statistics.level == "critical"
    verdict = host.ask("first")
    assert isinstance(verdict, Refused)
    with pytest.raises(AdmissionRefused, match=r"memory pressure is critical: .* MiB are in use \(\d\d%\)") as caught:
        host.load("first")
    assert caught.value.advice is not None
    with pytest.raises(AdmissionDeferred, match="memory pressure is critical"):
        host.load("second", defer=True)
    cargo.clear()
    statistics = host.check_memory()
    assert statistics is not None
    assert statistics.level == "nominal"
    assert _settles(lambda: {one.name: one.state for one in host.plugins()}["second"] == "active")
    assert host.load("first").state == "active"


def test_a_deferred_load_does_not_come_after_the_close(make: Make) -> None:
    """The pressure is over while the host is being closed: whoever waited for that waits no more."""
    host = make(settings(200, threshold=0.5), late=EMPTY)
    statistics = host.statistics().memory
    assert statistics is not None
    cargo = [b"x" * MIB for _ in range((statistics.threshold_bytes - statistics.usage_bytes) // MIB + 20)]
    host.check_memory()
    with pytest.raises(AdmissionDeferred):
        host.load("late", defer=True)
    with host._turn.lock:
        cargo.clear()
        host.check_memory()
        assert _settles(lambda: host.statistics().services.schedule.threads == 1)
        host.close()
    assert _settles(lambda: host.statistics().services.schedule.threads == 0)
    assert {one.name: one.state for one in host.plugins()} == {"late": "deferred"}


def test_who_rents_past_the_ceiling_gets_what_others_can_do_without(make: Make) -> None:
    """The other plugin is asked, the renter is not; and when nothing is left, the error has the figures."""
    host = make(settings(60), hoarder=HOARDER, renter=HOARDER)
    host.load_all(["hoarder", "renter"])
    hoarder, renter = thing(host, "hoarder"), thing(host, "renter")
    hoarder.hoard(40)
    renter.hoard(5)
    with renter.context.buffers.rent(30 * MIB) as view:
        assert len(view) == 30 * MIB
        # once more where what it freed did not come back to the system whole
        assert {level for _, level in hoarder.asked} == {"elevated"}
        hoarder.cache.clear()
        with pytest.raises(CeilingExceeded) as caught:
            renter.context.buffers.rent(60 * MIB)
    error = caught.value
    assert error.ceiling_bytes == host.ceiling_bytes
    assert error.wanted_bytes == 60 * MIB
    assert error.used_bytes is not None
    assert error.used_bytes + 60 * MIB > (host.ceiling_bytes or 0)
    assert renter.asked == []
    assert len(renter.cache) == 5
    reactions = host.statistics().reactions
    assert {reaction.occasion for reaction in reactions} == {"buffer"}
    buffers = host.statistics().services.buffers
    assert buffers is not None
    assert (buffers.refusals, buffers.used_bytes) == (1, 0)


def test_a_plugin_may_rent_while_it_is_asked_and_under_its_own_lock(make: Make) -> None:
    """Two that would ask each other for ever, and wait for each other's locks: one of them gets its error instead."""
    locked = HOARDER.replace("        self.asked = []", "        self.asked = []\n        self.lock = Lock()")
    locked = locked.replace(
        "        return self.cache.trim",
        "        with self.lock: self.context.buffers.rent(1 << 40)\n        return self.cache.trim",
    )
    source = (
        "from threading import Lock\n"
        + locked
        + "\n    def work(self):\n        with self.lock: self.context.buffers.rent(1 << 40)\n"
    )
    host = make(settings(10), left=source, right=source)
    host.load_all(["left", "right"])
    ended: list[str] = []

    def work(name: str) -> None:
        for _ in range(20):
            with pytest.raises(CeilingExceeded):
                thing(host, name).work()
        ended.append(name)

    threads = [threading.Thread(target=work, args=(name,), daemon=True) for name in ("left", "right")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(ended) == ["left", "right"]


STUCK = """
import threading
from weighbridge_hookspecs import hookimpl

class Plugin:
    def __init__(self, context):
        self.entered, self.over = threading.Event(), threading.Event()

    @hookimpl
    def weighbridge_release_memory(self, request):
        self.entered.set()
        self.over.wait()
"""


@pytest.fixture
def stuck(make: Make) -> Iterator[Stuck]:
    """A host whose timer thread is in a plugin that does not come back from being asked."""
    host = make(settings(200, threshold=0.5, check_seconds=0.01), stuck=STUCK, lamp=EMPTY)
    host.load("stuck")
    plugin = thing(host, "stuck")
    statistics = host.statistics().memory
    assert statistics is not None
    cargo = [b"x" * MIB for _ in range((statistics.threshold_bytes - statistics.usage_bytes) // MIB + 20)]
    entered, over = plugin.entered, plugin.over
    del plugin
    assert entered.wait(30)
    yield host, over
    over.set()
    cargo.clear()


def test_one_that_is_being_asked_is_waited_for_when_it_is_unloaded(stuck: Stuck) -> None:
    """Its code stays until the answer is there; until then others can be loaded, and the unload says where it hangs."""
    host, over = stuck
    with pytest.raises(UnloadTimeout) as caught:
        host.unload("stuck", deadline_seconds=0.1)
    (line,) = caught.value.inside
    assert re.fullmatch(r"thread 'weighbridge-timers' at .*weighbridge_release_memory", line)
    assert host.load("lamp").state == "active"
    threading.Timer(0.2, over.set).start()
    assert host.unload("stuck").state == "unloaded"


def test_one_that_hangs_when_it_is_asked_does_not_keep_the_host_from_closing(stuck: Stuck) -> None:
    """The close waits for a while, says where it hangs, and unloads the others."""
    host, over = stuck
    host.load("lamp")
    host._services.scheduler.join_seconds = 0.1  # type: ignore[misc]
    host._departures.deadline_seconds = 0.1
    with pytest.raises(ExceptionGroup) as caught:
        host.close()
    timer, unload = caught.value.exceptions
    assert "timer 'memory' did not stop in time" in str(timer)
    assert "in weighbridge_release_memory" in str(timer)
    assert isinstance(unload, UnloadTimeout)
    assert {one.name: one.state for one in host.plugins()} == {"lamp": "unloaded", "stuck": "active"}
    over.set()
