"""Eight threads lease and give back at random under a ceiling that is sometimes too small; what came of it, as JSON.

python soak.py FOLDER SECONDS SEED

The plugins are written into FOLDER. Standard output has a line for each phase as it begins, and one for the result;
a phase waits for a line of standard input. All stacks go to standard error if the threads do not come to an end.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import json
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final

import attrs
import psutil
from weighbridge_hookspecs import AdmissionRefused, hookspec

from weighbridge import MemorySettings, Receipt
from weighbridge.fabricate import write_distribution
from weighbridge.isolation import IsolatedHost

KIB: Final = 1024
MIB: Final = 1024 * KIB
ROOM: Final = 16 * MIB
"""Beyond what the process occupies once it is warm; sometimes enough for all threads together, and sometimes not."""
LARGEST: Final = 4 * MIB
POOLED: Final = 256 * KIB
CACHE_BYTES: Final = 16 * KIB
THRESHOLD: Final = 0.95
APPETITES: Final = (1 * MIB, 3 * MIB, 256 * KIB)
"""Bytes that a plugin keeps at most, one after the other; the next one comes after so many steps of all together:"""
COURSE: Final = 800
WARM_UP_STEPS: Final = 300
NAMES: Final = tuple(f"soaked{number}" for number in range(8))
NINTH: Final = "soaked8"
SWITCH_SECONDS: Final = 0.0005
"""So that threads take turns in the middle of things; by default it is ten times as long."""
ENOUGH_STEPS: Final = 100_000
"""Of all threads together in one phase: what has not happened by then does not happen."""
PATIENCE_SECONDS: Final = 90.0
"""After which threads that should have ended are taken for stuck."""
MANIFEST: Final = '[plugin]\n[memory]\nload = "64 KiB"\n'


class Soaking:
    """The application's hooks; each is for the plugin `who` alone."""

    @hookspec(firstresult=True)
    def step(self, who: str, appetite: int) -> bool | None:
        """Do one thing at random."""

    @hookspec(firstresult=True)
    def visit(self, who: str, nbytes: int) -> bool | None:
        """Rent behind a gate."""

    @hookspec(firstresult=True)
    def report(self, who: str) -> dict[str, Any] | None:
        """Figures."""

    @hookspec(firstresult=True)
    def settle(self, who: str) -> bool | None:
        """Give everything back."""


class Soak:
    """One host, its plugins, and the threads that work on them."""

    def __init__(self, ceiling: int, seed: int) -> None:
        sizes = {"pooled": POOLED, "largest": LARGEST, "cache_bytes": CACHE_BYTES}
        settings = {
            name: {**sizes, "seed": seed * 100 + number, "alone": name == NINTH}
            for number, name in enumerate((*NAMES, NINTH))
        }
        memory = MemorySettings(
            enabled=True,
            pool_max_array_bytes=POOLED,
            pressure_threshold=THRESHOLD,
            check_seconds=0.05,
            follow_limits=False,
        )
        self.host = IsolatedHost(ceiling, settings=settings, memory=memory)
        self.host.add_hookspecs(Soaking)
        self.host.allow(*NAMES, NINTH)
        self.host.load_all(NAMES, strict=True)
        self.seed = seed
        self.over = threading.Event()
        self.steps = [0] * len(NAMES)
        self.failures: list[str] = []
        self.receipts: list[Receipt] = []
        self.ninth: Counter[str] = Counter()
        """What it counted in all of its lives, and how often it came and was refused."""

    def run(self, seconds: float, has_happened: Callable[[], bool], *, with_ninth: bool) -> None:
        """Let the threads work for so long, and until it `has_happened`; this one looks after the memory meanwhile."""
        self.over.clear()
        end, enough = time.monotonic() + seconds, sum(self.steps) + ENOUGH_STEPS
        threads = [threading.Thread(target=self._guarded, args=(self._drive, number)) for number in range(len(NAMES))]
        if with_ninth:
            threads.append(threading.Thread(target=self._guarded, args=(self._come_and_go, len(NAMES))))
        for thread in threads:
            thread.start()
        while not self.over.wait(0.002):
            self.host.check_memory()
            if time.monotonic() > end and (has_happened() or sum(self.steps) > enough):
                break
        self.over.set()
        for thread in threads:
            thread.join()

    def refused(self) -> int:
        """Rents that the ceiling refused so far."""
        buffers = self.host.statistics().services.buffers
        return buffers.refusals if buffers is not None else 0

    def _guarded(self, work: Callable[[int], None], number: int) -> None:
        try:
            work(number)
        except BaseException:
            self.failures.append(traceback.format_exc())
            self.over.set()

    def _drive(self, number: int) -> None:
        dice, hook = Random(self.seed * 1000 + number), self.host.hook
        while not self.over.is_set():
            appetite = APPETITES[sum(self.steps) // COURSE % len(APPETITES)]
            if not hook.step(who=NAMES[number], appetite=appetite):
                raise RuntimeError(f"{NAMES[number]} did not answer")
            if dice.random() < 0.1:
                hook.visit(who=dice.choice(NAMES), nbytes=dice.randrange(64 * KIB))
            self.steps[number] += 1

    def _come_and_go(self, number: int) -> None:
        dice = Random(self.seed * 1000 + number)
        while not self.over.wait(dice.random() / 10):
            try:
                self.host.load(NINTH)
            except AdmissionRefused:
                self.ninth["refusals"] += 1
                continue
            self.use_ninth(dice.randrange(50))
            self.receipts.append(self.host.unload(NINTH))

    def use_ninth(self, steps: int) -> None:
        """It is unloaded afterwards with what it has leased; its counters are noted before."""
        for _ in range(steps):
            self.host.hook.step(who=NINTH, appetite=MIB)
        report = self.host.hook.report(who=NINTH)
        self.ninth.update(report["tally"])
        self.ninth.update({"loads": 1, "pool_rents": report["pool"]["rents"]})

    def reports(self) -> dict[str, Any]:
        """What every plugin and every service counted."""
        services = self.host.statistics().services
        return {
            "plugins": {name: self.host.hook.report(who=name) for name in NAMES},
            "charges": {name: self.host.account(name).charges.get("arena", 0) for name in NAMES},
            "services": attrs.asdict(services),
        }

    def settle(self) -> None:
        """Have every plugin give everything back, and the bus deliver what waits."""
        for name in NAMES:
            self.host.hook.settle(who=name)
        while self._bus()["pending"] + self._bus()["delivering"]:
            time.sleep(0.001)

    def _bus(self) -> dict[str, int]:
        bus = self.host.statistics().services.bus
        assert bus is not None
        return attrs.asdict(bus)

    def end(self) -> dict[str, Any]:
        """Unload all; what is left then."""
        self.receipts += [self.host.unload(name) for name in NAMES]
        statistics = self.host.statistics()
        self.host.close()
        return {
            "services": attrs.asdict(statistics.services),
            "unclean": [unclean(one) for one in self.receipts if not is_clean(one)],
            "unloads": len(self.receipts),
        }


def is_clean(receipt: Receipt) -> bool:
    """Whether everything came back."""
    return receipt.state == "unloaded" and not receipt.failures and not receipt.survivors


def unclean(receipt: Receipt) -> list[str]:
    """What did not."""
    return [receipt.plugin, receipt.state, *receipt.failures, *(f"{one.name}: {one.tie}" for one in receipt.survivors)]


def held() -> dict[str, int]:
    """Threads and descriptors of the process, once those threads have ended that were told to."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join()
    gc.collect()
    return {"threads": threading.active_count(), "descriptors": psutil.Process().num_fds()}


def occupied() -> int:
    """Resident bytes, without what the C library keeps for later."""
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    return int(psutil.Process().memory_info().rss)


def forget_peak() -> bool:
    """Have the kernel take the highest resident set from now on; whether it does.

    https://man7.org/linux/man-pages/man5/proc_pid_clear_refs.5.html
    """
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def peak() -> int:
    """The highest resident set, in bytes; https://docs.kernel.org/filesystems/proc.html"""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(text.partition("VmHWM:")[2].split()[0]) * KIB


def install(folder: Path) -> None:
    """Write the nine plugins."""
    source = Path(__file__).with_name("soak_plugin.py").read_text(encoding="utf-8")
    for name in (*NAMES, NINTH):
        write_distribution(folder, name, source, manifest=MANIFEST)
    sys.path.insert(0, str(folder))


def warm_up(seed: int) -> list[str]:
    """Do everything once, without a limit; what went wrong."""
    soak = Soak(2**40, seed)
    soak.run(0, lambda: min(soak.steps) >= WARM_UP_STEPS, with_ninth=False)
    soak.run(0, lambda: soak.ninth["loads"] > 0, with_ninth=True)
    soak.settle()
    soak.end()
    return soak.failures


def say(phase: str, **figures: int) -> None:
    """Tell that a phase begins, and wait until that was heard."""
    print(json.dumps({"phase": phase, **figures}), flush=True)
    sys.stdin.readline()


def main(folder: str, seconds: float, seed: int) -> dict[str, Any]:
    """Lease at random; go on while a ninth plugin comes and goes; give everything back."""
    faulthandler.dump_traceback_later(seconds + PATIENCE_SECONDS, exit=True)
    sys.setswitchinterval(SWITCH_SECONDS)
    install(Path(folder))
    failures = warm_up(seed)
    before = held()
    ceiling = occupied() + ROOM
    has_mark = forget_peak()
    soak = Soak(ceiling, seed + 1)
    marks = {}

    say("leases", ceiling=ceiling, largest=LARGEST)
    soak.run(seconds / 2, lambda: soak.refused() > 0, with_ninth=False)
    marks["leases"] = peak()
    forget_peak()

    say("loads")
    soak.run(seconds / 2, lambda: soak.ninth["loads"] > 0, with_ninth=True)
    marks["loads"] = peak()

    say("end")
    at_work = soak.reports()
    soak.settle()
    settled = soak.reports()
    statistics = soak.host.statistics()
    ended = soak.end()
    return {
        "failures": failures + soak.failures,
        "steps": sum(soak.steps),
        "ninth": dict(soak.ninth),
        "at_work": at_work,
        "settled": settled,
        "ended": ended,
        "refused_loads": statistics.refusals,
        "memory": attrs.asdict(statistics.memory) if statistics.memory else None,
        "marks": marks if has_mark else {},
        "before": before,
        "after": held(),
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))), flush=True)
