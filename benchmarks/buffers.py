"""What renting a buffer costs beside allocating one, and what ten thousand reads and writes leave behind.

    python benchmarks/buffers.py [--rounds 9] [--operations 10000] [--json]

Rent and return of a pooled buffer, next to ``bytearray(n)`` and to what does the same with one: a view of it that is
ended, ``with memoryview(bytearray(n))``. The column "view alone" is the same ``with`` over a bytearray that is there
already: no pool in Python that ends its views can be faster. Rounds alternate in one process; the figures are medians.

Then a read and a write of 64 KiB through a file, with the pool under a ceiling of 64 MiB and without it: bytes traced
by tracemalloc, full collections, and the growth of the resident set, each in a process of its own.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import timeit
import tracemalloc
from typing import Any

from weighbridge.leases.buffers import BufferPool

KIB = 1024
MIB = 1024 * KIB
LENGTHS = (2 * KIB, 4 * KIB, 5000, 16 * KIB, 64 * KIB, 256 * KIB, MIB)
STATEMENTS = {
    "rent": "with rent(n): pass",
    "bytearray": "bytearray(n)",
    "with a view": "with memoryview(bytearray(n)): pass",
    "view alone": "with memoryview(block): pass",
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--operations", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--workload", choices=("pool", "plain"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.workload:
        print(json.dumps(workload(options.operations, pooled=options.workload == "pool")))
        return
    rows = [compare(nbytes, options.rounds) for nbytes in LENGTHS]
    loops = {way: in_fresh_process(way, options.operations) for way in ("pool", "plain")}
    if options.json:
        print(json.dumps({"rows": rows, "loops": loops}, indent=2))
        return
    print(f"Python {platform.python_version()}: rent and return, as a ratio to what else does it; smaller is better")
    print(f"{'bytes':>9}{'rent':>11}{'/ bytearray':>15}{'/ with a view':>15}{'view alone / bytearray':>25}")
    for row in rows:
        ratios = [row["rent"] / row["bytearray"], row["rent"] / row["with a view"]]
        floor = row["view alone"] / row["bytearray"]
        print(f"{row['bytes']:>9,}{row['rent'] * 1e9:>8.0f} ns{ratios[0]:>15.2f}{ratios[1]:>15.2f}{floor:>25.2f}")
    print(f"\n{options.operations:,} reads and writes of 64 KiB")
    print(f"{'':<7}{'traced bytes each':>19}{'full collections':>18}{'resident set':>14}{'blocks made':>13}")
    for way, loop in loops.items():
        growth = f"{loop['resident']:+.2%}"
        print(f"{way:<7}{loop['traced']:>19.4f}{loop['collections']:>18}{growth:>14}{loop['made']:>13,}")


def compare(nbytes: int, rounds: int) -> dict[str, Any]:
    """Median seconds of each statement."""
    pool = BufferPool(64 * MIB)
    pool.rent(nbytes).release()
    number = max(200, min(20_000, 400 * MIB // nbytes // 20))
    scope = {"rent": pool.rent, "n": nbytes, "block": bytearray(nbytes)}
    times: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(rounds + 1):  # the first one warms up
        for name, statement in STATEMENTS.items():
            times[name].append(timeit.timeit(statement, number=number, globals=scope) / number)
    return {"bytes": nbytes, **{name: statistics.median(each[1:]) for name, each in times.items()}}


def in_fresh_process(way: str, operations: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--workload", way, "--operations", str(operations)]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def workload(operations: int, *, pooled: bool) -> dict[str, Any]:
    """Half of the operations are reads; traced and resident growth are of two loops, since tracing takes memory."""
    pool = BufferPool(64 * MIB, pool_max_array_bytes=MIB if pooled else 0)
    nbytes = 64 * KIB
    with tempfile.TemporaryFile(buffering=0) as file:

        def run(times: int) -> None:
            for _ in range(times // 2):
                file.seek(0)
                with pool.rent(nbytes) as view:
                    file.write(view)
                file.seek(0)
                with pool.read_into(file, nbytes) as part:
                    assert len(part) == nbytes

        run(200)
        gc.collect()
        collections, resident = gc.get_stats()[2]["collections"], resident_bytes()
        run(operations)
        growth = resident_bytes() / resident - 1
        collected = gc.get_stats()[2]["collections"] - collections
        tracemalloc.start()
        run(2)
        base = tracemalloc.get_traced_memory()[0]
        run(operations)
        traced = (tracemalloc.get_traced_memory()[0] - base) / operations
        tracemalloc.stop()
    return {"traced": traced, "collections": collected, "resident": growth, "made": pool.statistics().made}


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


if __name__ == "__main__":
    main()
