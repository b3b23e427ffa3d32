"""What a limit that follows load makes of a machine: six clients whose calls compute for 5 ms, alone and beside others.

    python benchmarks/wasm_load.py [--rounds 3] [--seconds 2] [--hogs 0 1 2] [--json]

Each call goes through the gate, takes a warm instance of the pool, computes, and gives the instance back, reset.
"static" is a limit that stays; "system" and "external" follow the load of everybody, and that of everybody else, with a
look every 0.5 s. Beside them run so many processes that take a core each if they get it. Limits that move have 3 s to
settle first. Rounds alternate; the figures are medians: calls a second, as a share of the best static limit beside
nobody, and the 99th percentile of the time that a call takes once it has its place. What strangers took of the cores
meanwhile is printed below: a limit that makes room for others cannot be judged on a machine that has others.

Goal: "external" alone on the machine has at least 90 % of the best static limit.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from typing import Any, cast, get_args

import attrs
import wasmtime

from weighbridge.leases.gate import ConcurrencyGate
from weighbridge_wasm.concurrency import ConcurrencyControl
from weighbridge_wasm.cores import Cores, find_cores
from weighbridge_wasm.engine import Engine
from weighbridge_wasm.instance import Instance
from weighbridge_wasm.load import ExternalLoad, LoadKind, open_load
from weighbridge_wasm.pool import WarmPool
from weighbridge_wasm.program import Program
from weighbridge_wasm.reset import open_resetter

CLIENTS = 6
CALL_SECONDS = 0.005
INTERVAL_SECONDS = 0.5
SETTLE_SECONDS = 3.0
GOAL = 0.9

GUEST = """
(module
  (memory (export "memory") 16)
  (func (export "work") (param $rounds i32) (result i32) (local $x i32)
    (local.set $x (i32.const 1))
    (loop $again
      (local.set $x (i32.xor (local.get $x) (i32.shl (local.get $x) (i32.const 13))))
      (local.set $x (i32.xor (local.get $x) (i32.shr_u (local.get $x) (i32.const 17))))
      (i32.store (i32.const 64) (local.get $x))
      (local.set $rounds (i32.sub (local.get $rounds) (i32.const 1)))
      (br_if $again (local.get $rounds)))
    (local.get $x)))
"""


@attrs.frozen
class Figure:
    """What became of some seconds."""

    calls_per_second: float
    p99_seconds: float
    limit: int


class Work:
    """Calls through a gate, with instances of a pool."""

    def __init__(self, pool: WarmPool[Instance], make: Callable[[], Instance], times: int) -> None:
        self._pool, self._make, self._times = pool, make, times

    def call(self, gate: ConcurrencyGate) -> float:
        """Seconds from the place at the gate to the end."""
        with gate.enter():
            began = time.perf_counter()
            instance = self._pool.acquire("guest") or self._pool.adopt("guest", self._make())
            instance.call("work", (self._times,))
            self._pool.release(instance)
            return time.perf_counter() - began

    def crowd(self, gate: ConcurrencyGate, seconds: float, tick: Callable[[], object]) -> Figure:
        """Six clients for so long, with a tick at each interval."""
        stop = threading.Event()

        def client() -> list[float]:
            taken = []
            while not stop.is_set():
                taken.append(self.call(gate))
            return taken

        began = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as threads:
            clients = [threads.submit(client) for _ in range(CLIENTS)]
            while time.perf_counter() - began < seconds:
                time.sleep(INTERVAL_SECONDS)
                tick()
            stop.set()
            taken = sorted(seconds for each in clients for seconds in each.result())
        passed = time.perf_counter() - began
        return Figure(len(taken) / passed, taken[int(len(taken) * 0.99)], gate.statistics().limit)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument(
        "--hogs", type=int, nargs="+", default=[0, 1, 2], help="processes beside; 0 has to be among them"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cores = find_cores()
    if 0 not in options.hogs:
        parser.error("shares are of the best static limit beside 0")
    rows, strangers = measure(cores, options.rounds, options.seconds, options.hogs)
    if options.json:
        print(json.dumps({"cores": cores.count, "strangers": strangers, "rows": rows}, indent=2))
        return
    print_table(cores, rows, strangers)


def measure(cores: Cores, rounds: int, seconds: float, beside: list[int]) -> tuple[list[dict[str, Any]], float]:
    """One row for each limit, and for each number of others; and the share of the cores that strangers took."""
    names = [*(f"static {limit}" for limit in sorted({1, cores.count, 2 * cores.count})), "system", "external"]
    found: dict[tuple[str, int], list[Figure]] = {(name, hogs): [] for name in names for hogs in beside}
    strangers = []
    with work() as ours:
        for _, hogs, name in itertools.product(range(rounds), beside, names):
            with others(hogs), closing(ExternalLoad(cores)) as load:
                found[name, hogs].append(run(ours, name, cores, seconds))
                if not hogs:
                    strangers.append(load.sample() or 0.0)
    rows = [summary(name, hogs, figures) for (name, hogs), figures in found.items()]
    best = max(row["calls_per_second"] for row in rows if row["name"].startswith("static") and not row["hogs"])
    return [{**row, "share": row["calls_per_second"] / best} for row in rows], statistics.mean(strangers)


def run(ours: Work, name: str, cores: Cores, seconds: float) -> Figure:
    """One limit, for so long."""
    if name in get_args(LoadKind):
        return run_moving(ours, cast(LoadKind, name), cores, seconds)
    return ours.crowd(ConcurrencyGate(int(name.removeprefix("static "))), seconds, lambda: None)


def run_moving(ours: Work, kind: LoadKind, cores: Cores, seconds: float) -> Figure:
    """A limit that follows load, once it has settled."""
    gate = ConcurrencyGate(cores.count)
    with closing(open_load(kind, cores)) as load:
        control = ConcurrencyControl(cores, load, gate.resize, interval_seconds=INTERVAL_SECONDS)
        ours.crowd(gate, SETTLE_SECONDS, control.tick)
        return ours.crowd(gate, seconds, control.tick)


def summary(name: str, hogs: int, figures: list[Figure]) -> dict[str, Any]:
    """Medians over the rounds."""
    return {
        "name": name,
        "hogs": hogs,
        "calls_per_second": statistics.median(figure.calls_per_second for figure in figures),
        "p99_seconds": statistics.median(figure.p99_seconds for figure in figures),
        "limits": [figure.limit for figure in figures],
    }


@contextmanager
def work() -> Iterator[Work]:
    """The engine, the program and the pool, and calls of the wanted length."""
    with ExitStack() as stack:
        engine = stack.enter_context(Engine())
        resetter = open_resetter()
        stack.callback(resetter.close)
        program = stack.enter_context(Program(engine, bytes(wasmtime.wat2wasm(GUEST)), resetter=resetter))
        pool: WarmPool[Instance] = WarmPool()
        stack.callback(pool.close)
        with program.instantiate() as instance:
            times = int(1_000_000 * CALL_SECONDS / min(timed(instance, 1_000_000) for _ in range(9)))
        yield Work(pool, program.instantiate, times)


def timed(instance: Instance, times: int) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    instance.call("work", (times,))
    return time.perf_counter() - began


@contextmanager
def others(count: int) -> Iterator[None]:
    """So many processes that compute all the time."""
    hogs = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def print_table(cores: Cores, rows: list[dict[str, Any]], strangers: float) -> None:
    """Calls a second, share of the best static limit, slowest in a hundred, and where a moving limit ended."""
    print(f"Python {platform.python_version()}, {cores.count} cores ({cores.source}), {CLIENTS} clients")
    beside = dict.fromkeys(row["hogs"] for row in rows)
    print(f"{'':<12}" + "".join(f"{f'beside {hogs}':>26}" for hogs in beside))
    for name in dict.fromkeys(row["name"] for row in rows):
        print(f"{name:<12}" + "".join(cell(row) for row in rows if row["name"] == name))
    alone = next(row for row in rows if row["name"] == "external" and not row["hogs"])
    print(f"external alone: {alone['share']:.0%} of the best static limit; goal: at least {GOAL:.0%}")
    print(f"strangers took {strangers:.0%} of the cores beside 0")


def cell(row: dict[str, Any]) -> str:
    """One row of the table beside so many others."""
    at = "" if row["name"].startswith("static") else f" at {statistics.median_low(row['limits'])}"
    return f"{row['calls_per_second']:>7.0f}{row['share']:>5.0%}{row['p99_seconds'] * 1e3:>6.1f} ms{at:<5}"


if __name__ == "__main__":
    main()
