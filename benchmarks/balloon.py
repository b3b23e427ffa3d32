"""What a look at the balloon costs beside reading a file once, and what a slab cache costs beside a dictionary.

    python benchmarks/balloon.py [--rounds 15] [--json]

"Look" is one turn of the driver's thread while nothing is wrong: size and target of the balloon, memory, the decision.
"Exact look" is the one that follows when something seems to be missing: it also counts what processors keep at hand.
Both beside ``open("/proc/meminfo", "rb").read()``. Then values of several lengths put into a slab cache and taken out,
beside a dictionary that is given a copy and gives one. Rounds alternate in one process; the figures are medians.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import statistics
import timeit
from collections.abc import Callable
from pathlib import Path

from weighbridge_balloon.control import PressureControl
from weighbridge_balloon.gauge import Gauge, MeminfoFile
from weighbridge_balloon.handlers import Handlers
from weighbridge_balloon.kept import KeptFile
from weighbridge_balloon.levels.choose import find_levels
from weighbridge_balloon.levels.vmstat import VmstatLevel
from weighbridge_balloon.percpu import PerCpuLists
from weighbridge_balloon.regulator import Regulator
from weighbridge_balloon.release import Releaser
from weighbridge_balloon.settings import PressureSettings
from weighbridge_balloon.slabs import SlabCache

KIB = 1024
MIB = 1024 * KIB
LENGTHS = (KIB, 16 * KIB, 256 * KIB)
GOAL_SECONDS = 50e-6
ROOT = Path("/")
Call = Callable[[], object]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    looks = compare(looking(), options.rounds, number=500)
    caches = {length: compare(caching(length), options.rounds, number=200) for length in LENGTHS}
    if options.json:
        print(json.dumps({"looks": looks, "caches": caches}, indent=2))
        return
    base = looks["open and read"]
    print(f"Python {platform.python_version()}: a look at the machine; goal: under {GOAL_SECONDS * 1e6:.0f} us")
    for name, seconds in looks.items():
        print(f"{name:<32}{seconds * 1e6:>8.1f} us{seconds / base:>8.2f}")
    print("\na slab cache, as a ratio to a dictionary of copies; smaller is better")
    print(f"{'bytes':>9}{'put':>8}{'get':>8}{'put, us':>10}{'get, us':>10}")
    for length, found in caches.items():
        ratios = [found[f"slab {what}"] / found[f"dict {what}"] for what in ("put", "get")]
        times = [found[f"slab {what}"] * 1e6 for what in ("put", "get")]
        print(f"{length:>9,}{ratios[0]:>8.2f}{ratios[1]:>8.2f}{times[0]:>10.2f}{times[1]:>10.2f}")


def looking() -> dict[str, Call]:
    """A look of each kind, and what each is made of."""
    levels = find_levels(ROOT, may_write=False)
    gauge = Gauge(MeminfoFile(KeptFile(ROOT / "proc/meminfo")), levels, PerCpuLists(ROOT))
    control = PressureControl(PressureSettings(), log=logging.getLogger("benchmark"))
    releaser = Releaser(Handlers(logging.getLogger("benchmark")), control.look)
    regulator = Regulator(PressureSettings(), gauge.read, releaser, look_closely=gauge.read_closely)

    def open_and_read() -> bytes:
        with open("/proc/meminfo", "rb") as file:
            return file.read()

    return {
        "open and read": open_and_read,
        "look": regulator.watch,
        "look, figures alone": gauge.read,
        "exact look": gauge.read_closely,
        "/proc/vmstat, on older kernels": VmstatLevel(ROOT).read,
        "with what lies ready": control.look,
    }


def caching(length: int) -> dict[str, Call]:
    """Puts and gets of values of this length, among thirty keys."""
    value, slabs = bytearray(b"x" * length), SlabCache(64 * MIB)
    table: dict[int, bytes] = {}
    keys = list(range(30))

    def over(act: Callable[[int], object]) -> Call:
        state = {"at": 0}

        def call() -> object:
            state["at"] = (state["at"] + 1) % len(keys)
            return act(keys[state["at"]])

        return call

    def keep(key: int) -> None:
        table[key] = bytes(value)

    for key in keys:
        slabs.put(key, value)
        keep(key)
    return {
        "slab put": over(lambda key: slabs.put(key, value)),
        "slab get": over(slabs.get),
        "dict put": over(keep),
        "dict get": over(lambda key: bytearray(table[key])),
    }


def compare(calls: dict[str, Call], rounds: int, number: int) -> dict[str, float]:
    """Median seconds of each."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):  # the first one warms up
        for name, call in calls.items():
            times[name].append(timeit.timeit(call, number=number) / number)
    return {name: statistics.median(each[1:]) for name, each in times.items()}


if __name__ == "__main__":
    main()
