"""What memory on a node costs beside memory from ``mmap``.

    python benchmarks/numa.py [--rounds 9] [--nbytes 2097152] [--json]

A block of 2 MiB is allocated and freed, as it is and with every page touched: by ``mmap.mmap`` for a private map, and
by the allocator of the NUMA plugin without a node, for a node, with a charge on an account, on transparent huge pages,
and strictly, which touches every page by itself. Rounds alternate in one process; the figures are medians, and ratios
to ``mmap.mmap``.
"""

from __future__ import annotations

import argparse
import json
import mmap
import platform
import statistics
import timeit
from collections.abc import Callable

from weighbridge_numa import NumaAllocator, local_allocator

Block = Callable[[], object]


class Lease:
    """A charge that costs as little as one can."""

    def release(self) -> None:
        """Nothing is kept."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--nbytes", type=int, default=2 << 20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    allocator = local_allocator()
    rows = compare(ways(allocator, options.nbytes), options.rounds)
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"Python {platform.python_version()}, {options.nbytes:,} bytes, {allocator.machine.abilities.evidence}")
    print(f"{'allocate and free':<28}{'as it is':>12}{'ratio':>8}{'touched':>12}{'ratio':>8}")
    base = rows["mmap.mmap"]
    for name, (plain, touched) in rows.items():
        figures = f"{plain * 1e6:>9.1f} us{plain / base[0]:>8.2f}{touched * 1e6:>9.1f} us{touched / base[1]:>8.2f}"
        print(f"{name:<28}{figures}")


def ways(allocator: NumaAllocator, nbytes: int) -> dict[str, tuple[Block, Block]]:
    """For each way a function that allocates and frees, and one that touches every page in between."""
    node = allocator.topology.ids[0] if allocator.topology else None
    wanted: dict[str, dict[str, object]] = {
        "allocate": {},
        "allocate, node": {"node": node},
        "allocate, node, charge": {"node": node, "charge": lambda nbytes, label: Lease()},
        "allocate, node, huge": {"node": node, "huge": True},
    }
    if node is not None:
        wanted["allocate, node, strict"] = {"node": node, "strict": True}
    zeros = bytes(-(-nbytes // mmap.PAGESIZE))

    def mapped(touch: bool) -> None:
        block = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if touch:
            with memoryview(block) as view:
                view[:: mmap.PAGESIZE] = zeros
        block.close()

    def allocated(arguments: dict[str, object], touch: bool) -> None:
        buffer = allocator.allocate(nbytes, **arguments)  # type: ignore[arg-type]  # each has the type of its keyword
        if touch:
            with buffer.view() as view:
                view[:: mmap.PAGESIZE] = zeros
        buffer.release()

    def pair(arguments: dict[str, object]) -> tuple[Block, Block]:
        return lambda: allocated(arguments, False), lambda: allocated(arguments, True)

    baseline: tuple[Block, Block] = (lambda: mapped(False), lambda: mapped(True))
    return {"mmap.mmap": baseline, **{name: pair(arguments) for name, arguments in wanted.items()}}


def compare(ways: dict[str, tuple[Block, Block]], rounds: int) -> dict[str, tuple[float, float]]:
    """Median seconds, of each as it is and touched."""
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in ways}
    for _ in range(rounds + 1):  # the first one warms up
        for name, pair in ways.items():
            for block, kept, number in zip(pair, times[name], (2000, 100), strict=True):
                kept.append(timeit.timeit(block, number=number) / number)
    return {name: (statistics.median(plain[1:]), statistics.median(used[1:])) for name, (plain, used) in times.items()}


if __name__ == "__main__":
    main()
