"""Eight threads lease at random under a ceiling that is sometimes too small: it holds, and every counter adds up.

``soak.py`` does it in a process of its own, with a plugin for each thread, and this process looks every millisecond at
what that one occupies; the kernel's own highest mark is taken as well. The ceiling is what the process occupies once it
is warm, and room for buffers beyond that; plugins want to keep up to twice as much of them. What is measured is the
whole resident set, the heap of Python included. Caches hold little here, for values that a plugin makes by itself are
asked for when memory is short, and not limited.

First the plugins only lease. Then a ninth one comes and goes meanwhile: an unload walks over all live objects, for
which the host needs a few MiB for a moment, and these are not leased.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs
import pytest

Figures: TypeAlias = dict[str, Any]

pytestmark = pytest.mark.skipif(
    not os.path.isdir("/proc/self"), reason="the resident set of another process is in /proc"
)
PROGRAM: Final = Path(__file__).with_name("soak.py")
SEED: Final = 4
SUBSCRIBERS: Final = 8
ALLOCATOR: Final = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")
"""What somebody may have set for the C library; the host sets it by itself unless they have."""
LOOK_SECONDS: Final = 0.001
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


@attrs.define
class Onlooker:
    """Looks at what a process occupies, again and again, and keeps the most for each phase of its work."""

    pid: int
    phase: str = "start"
    peaks: dict[str, int] = attrs.field(factory=dict)
    _over: threading.Event = attrs.field(factory=threading.Event)
    _lock: threading.Lock = attrs.field(factory=threading.Lock)

    def look(self) -> None:
        """Until `leave`."""
        with open(f"/proc/{self.pid}/statm", "rb", buffering=0) as statm:
            while not self._over.wait(LOOK_SECONDS):
                with self._lock:
                    statm.seek(0)
                    occupied = int(statm.read().split()[1]) * PAGE_BYTES
                    self.peaks[self.phase] = max(self.peaks.get(self.phase, 0), occupied)

    def begin(self, phase: str) -> None:
        """Count what is seen from now on for another phase."""
        with self._lock:
            self.phase = phase

    def leave(self) -> None:
        self._over.set()


@attrs.frozen
class Soaked:
    """What came of one run."""

    limits: Figures
    peaks: dict[str, int]
    figures: Figures

    def of_plugins(self, when: str) -> list[Figures]:
        """What the eight of them reported."""
        plugins: dict[str, Figures] = self.figures[when]["plugins"]
        return list(plugins.values())

    def counted(self, what: str) -> int:
        """By all nine plugins together."""
        tallies = (self.figures["ninth"], *(one["tally"] for one in self.of_plugins("settled")))
        return sum(tally.get(what, 0) for tally in tallies)

    def over(self, phase: str) -> int:
        """By how much the process was above its ceiling at most; below 0 if it never was."""
        marks: dict[str, int] = self.figures["marks"]
        return max(self.peaks[phase], marks.get(phase, 0)) - int(self.limits["ceiling"])


@pytest.fixture(scope="module", params=[2, pytest.param(60, marks=pytest.mark.soak)], ids=lambda seconds: f"{seconds}s")
def soaked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Soaked:
    """One run of so many seconds. If its threads do not end, it fails with the stacks of them all."""
    folder = tmp_path_factory.mktemp("plugins")
    command = [sys.executable, str(PROGRAM), str(folder), str(request.param), str(SEED)]
    environment = {name: value for name, value in os.environ.items() if name not in ALLOCATOR}
    errors = folder / "stderr"
    with (
        open(errors, "w+", encoding="utf-8") as stderr,
        subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
        ) as child,
    ):
        onlooker = Onlooker(child.pid)
        looking = threading.Thread(target=onlooker.look)
        looking.start()
        try:
            lines = list(follow(child, onlooker))
        finally:
            onlooker.leave()
            looking.join()
            child.kill()
    assert "failures" in lines[-1], errors.read_text(encoding="utf-8")
    result = Soaked(lines[0], onlooker.peaks, lines[-1])
    print(summary(result))
    return result


def follow(child: subprocess.Popen[str], onlooker: Onlooker) -> Iterator[Figures]:
    """What the child says; it waits at the beginning of each phase until the onlooker knows of it."""
    assert child.stdin is not None
    assert child.stdout is not None
    for text in child.stdout:
        line = json.loads(text)
        yield line
        if "phase" in line:
            onlooker.begin(line["phase"])
            child.stdin.write("heard\n")
            child.stdin.flush()


def summary(soaked: Soaked) -> str:
    figures, buffers = soaked.figures, soaked.figures["settled"]["services"]["buffers"]
    return (
        f"{figures['steps']} steps, {soaked.counted('rented')} rents, {buffers['refusals']} refused, "
        f"{buffers['collections']} collections, {figures['memory']['reactions']} reactions of the monitor; "
        f"the ninth: {soaked.counted('loads')} loads, {figures['refused_loads']} refused; bytes over the ceiling of "
        f"{soaked.limits['ceiling']}: {soaked.over('leases')} while leasing, {soaked.over('loads')} with loads; the "
        f"largest request: {soaked.limits['largest']}"
    )


def test_threads_at_work_neither_fail_nor_stop_each_other(soaked: Soaked) -> None:
    """All of them came to their end, no call of a timer failed, and nobody wrote into what another one had rented."""
    assert soaked.figures["failures"] == []
    assert soaked.figures["settled"]["services"]["schedule"]["failures"] == 0
    assert soaked.counted("corrupt") == 0


def test_ceiling_was_too_small_now_and_then(soaked: Soaked) -> None:
    """There were refusals and reactions, and many more rents; otherwise none of this would prove anything."""
    assert soaked.counted("refused") > 0
    assert soaked.figures["memory"]["reactions"] > 0
    assert soaked.counted("asked") > 0
    assert soaked.counted("rented") > 5 * soaked.counted("refused")
    assert soaked.counted("loads") > 0


@pytest.mark.parametrize("phase", ["leases", "loads"])
def test_process_stays_under_its_ceiling(soaked: Soaked, phase: str) -> None:
    """It is never above it by more than the largest request, whatever eight threads rent at the same moment."""
    assert soaked.over(phase) <= soaked.limits["largest"]


@pytest.mark.parametrize("when", ["at_work", "settled"])
def test_pools_have_counted_every_rent_and_return(soaked: Soaked, when: str) -> None:
    """What is rented is what the plugins keep, dropped views are not; used bytes are those of all pools together."""
    for one in soaked.of_plugins(when):
        pool = one["pool"]
        assert pool["rents"] == one["tally"]["rented"]
        assert pool["rented"] == one["kept"]
        assert pool["rents"] == pool["returns"] + pool["rented"]
        assert pool["made"] == pool["dropped"] + pool["rented"] + pool["idle"]
        assert pool["rented_bytes"] >= one["kept_bytes"]
    pools = [one["pool"] for one in soaked.of_plugins(when)]
    used = soaked.figures[when]["services"]["buffers"]["used_bytes"]
    assert used == sum(pool["rented_bytes"] + pool["idle_bytes"] for pool in pools)


def test_ceiling_has_counted_every_refusal(soaked: Soaked) -> None:
    """As many as plugins saw, and what was ever used is below it; the ninth plugin's rents are in its pool's books."""
    buffers, ninth = soaked.figures["settled"]["services"]["buffers"], soaked.figures["ninth"]
    assert buffers["refusals"] == soaked.counted("refused")
    assert buffers["peak_bytes"] <= buffers["ceiling_bytes"] == soaked.limits["ceiling"]
    assert ninth.get("pool_rents", 0) == ninth.get("rented", 0)


def test_gates_have_counted_everybody(soaked: Soaked) -> None:
    """Who entered has left, and who was sent away was told so."""
    for one in soaked.of_plugins("settled"):
        gate = one["gate"]
        assert gate["entered"] == one["tally"].get("entered", 0)
        assert gate["entered"] == gate["left"] + gate["inside"]
        assert gate["rejected"] + gate["timed_out"] == one["tally"].get("turned_away", 0)
        assert (gate["inside"], gate["waiting"], gate["interrupted"], gate["sent_away"]) == (0, 0, 0, 0)
    assert soaked.counted("entered") > 0


@pytest.mark.parametrize("when", ["at_work", "settled"])
def test_caches_have_counted_every_value(soaked: Soaked, when: str) -> None:
    """What was put is in it or has left it in one way, and each that left was reported once."""
    for one in soaked.of_plugins(when):
        cache = one["cache"]
        left = cache["evictions"] + cache["rejected"] + cache["replaced"] + cache["removed"]
        assert cache["puts"] == one["tally"]["puts"] == cache["items"] + left
        assert one["tally"]["left_the_cache"] == left
        assert cache["bytes"] <= cache["max_bytes"]
        assert cache["failures"] == 0


def test_secrets_and_charges_are_on_the_books(soaked: Soaked) -> None:
    """The vault holds what plugins have not released, and nothing after the unloads; charges are what was charged."""
    at_work, ended = soaked.figures["at_work"], soaked.figures["ended"]["services"]["secrets"]
    assert at_work["services"]["secrets"]["secrets"] == sum(one["secrets"] for one in soaked.of_plugins("at_work"))
    assert at_work["charges"] == {name: one["charged"] for name, one in at_work["plugins"].items()}
    assert ended["made"] == ended["released"] == soaked.counted("secrets_made") > 0
    assert (ended["secrets"], ended["locked_bytes"], ended["mapped_bytes"]) == (0, 0, 0)


def test_bus_has_counted_every_message(soaked: Soaked) -> None:
    """Each was offered to every subscriber; what one accepted was dropped later, withdrawn, or has reached it."""
    for when in ("at_work", "settled", "ended"):
        bus = soaked.figures[when]["services"]["bus"]
        left = bus["dropped"] + bus["withdrawn"] + bus["discarded"]
        assert bus["accepted"] == bus["pending"] + bus["delivering"] + bus["delivered"] + left
        assert bus["accepted"] + bus["rejected"] == SUBSCRIBERS * bus["published"]
        assert bus["failures"] == 0
    assert bus["published"] == soaked.counted("published")
    assert bus["delivered"] == soaked.counted("received") > 0
    assert bus["rejected"] >= soaked.counted("rejected")
    assert bus["subscriptions"] == bus["threads"] == bus["pending"] == bus["delivering"] == 0


def test_nothing_is_left_of_any_plugin(soaked: Soaked) -> None:
    """Every receipt is clean, no buffer is used, and there are no more threads and descriptors than before."""
    ended = soaked.figures["ended"]
    assert ended["unclean"] == []
    assert ended["unloads"] == 8 + soaked.counted("loads")
    assert ended["services"]["buffers"]["used_bytes"] == 0
    assert soaked.figures["after"] == soaked.figures["before"]
    assert soaked.figures["refused_loads"] == soaked.figures["ninth"].get("refusals", 0)
