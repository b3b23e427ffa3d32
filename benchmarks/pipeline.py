"""What a transaction of a pipeline costs, run and rolled back, beside a loop over ``graphlib`` and a pool.

    python benchmarks/pipeline.py [--rounds 9] [--json]

Trivial stages in three forms: a chain, all side by side, and layers of ten in which each needs two of the layer above.
Each runs through the gate of the host, with an undo and captured state in every stage; rolled back, its last stage
fails. Beside it the loop that the page of ``graphlib`` shows, over ``ThreadPoolExecutor`` and ``wait``: it has no
captured state, no rollback, no deadline and no gate. Then the layers from 10 to 5,000 stages; and undos that sleep,
against the longest way through the reverse graph, with one that fails. Rounds alternate in one process; figures are
medians.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from graphlib import TopologicalSorter
from typing import Any

from weighbridge_hookspecs import Gate

from weighbridge.leases.gate import ConcurrencyGate
from weighbridge_pipeline import (
    Job,
    Pipeline,
    PipelineScaling,
    PipelineSettings,
    Stage,
    TransactionFailed,
    TransactionResult,
    UndoJob,
    build,
)

Needs = dict[str, list[str]]

STAGES = 50
SIZES = (10, 50, 500, 5000)
UNDO_SECONDS = 0.05


class Surroundings:
    """The gate of the host, and no store: these states are small."""

    store: Any = None

    def gate(self, limit: int, *, max_waiting: int | None = None, reserve: float = 0.0) -> Gate:
        return ConcurrencyGate(limit, max_waiting, reserve=reserve)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    scaling = PipelineScaling(PipelineSettings(max_depth=max(SIZES)), Surroundings())
    try:
        forms = compare_forms(scaling, options.rounds)
        sizes = compare_sizes(scaling, options.rounds)
        rollback = compare_rollback(scaling, options.rounds)
    finally:
        scaling.close()
    if options.json:
        print(json.dumps({"stage": forms, "scale": sizes, "rollback": rollback}, indent=2))
        return
    print(f"Python {platform.python_version()}, {STAGES} stages\n")
    print_table(("us a stage", "loop", "run", "ratio", "run and undo all"), form_rows(forms))
    print_table(("layers of", "run, us a stage", "run and undo all"), size_rows(sizes))
    print_table(("rollback", "critical path", "took", "ratio", "stranded"), [rollback_row(rollback)])


# -- graphs ------------------------------------------------------------------------------------------------------------


def chain(count: int) -> Needs:
    """Each needs the one before."""
    return {str(number): [str(number - 1)] if number else [] for number in range(count)}


def wide(count: int) -> Needs:
    """None needs another."""
    return {str(number): [] for number in range(count)}


def layered(count: int) -> Needs:
    """Ten beside each other; each needs two of the ten above."""
    return {
        str(number): [str(number - 10), str(number - number % 10 - 10 + (number + 1) % 10)] if number >= 10 else []
        for number in range(count)
    }


def trivial(job: Job) -> int:
    """A stage."""
    return 1


def undo(job: UndoJob) -> None:
    """Its undo."""


def fail(job: Job) -> int:
    """The last stage of what is rolled back."""
    raise ValueError("no")


def pipeline(needs: Needs, *, fails: bool = False) -> Pipeline:
    """Trivial stages; of one that fails, one more, behind all of them."""
    stages = [Stage(name=name, run=trivial, undo=undo, needs=wanted) for name, wanted in needs.items()]
    if fails:
        ends = set(needs) - {need for wanted in needs.values() for need in wanted}
        stages.append(Stage(name="last", run=fail, needs=sorted(ends)))
    return build("p", stages, max_depth=len(stages))


# -- ways --------------------------------------------------------------------------------------------------------------


def loop(pool: ThreadPoolExecutor, needs: Needs) -> None:
    """As https://docs.python.org/3/library/graphlib.html has it, with a future for each stage."""
    sorter = TopologicalSorter(needs)
    sorter.prepare()
    running: dict[Future[int], str] = {}
    while sorter.is_active():
        for name in sorter.get_ready():
            running[pool.submit(lambda: 1)] = name
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
            sorter.done(running.pop(future))


def run(scaling: PipelineScaling, made: Pipeline) -> None:
    """To a good end."""
    assert scaling.run(made).outcome == "done"


def roll_back(scaling: PipelineScaling, made: Pipeline) -> TransactionResult:
    """To the bad end that is meant."""
    try:
        scaling.run(made)
    except TransactionFailed as error:
        result = error.result
    else:
        raise AssertionError("it came to a good end")
    assert result is not None
    return result


# -- comparing ---------------------------------------------------------------------------------------------------------


def medians(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each; rounds alternate, and the first one warms up."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(each[1:]) for name, each in times.items()}


def compare_forms(scaling: PipelineScaling, rounds: int) -> dict[str, dict[str, float]]:
    """Microseconds a stage, of the loop, run, and run and undone."""
    found = {}
    with ThreadPoolExecutor(2) as pool:
        for form in (chain, wide, layered):
            needs = form(STAGES)
            ways: dict[str, Callable[[], object]] = {
                "loop": partial(loop, pool, needs),
                "run": partial(run, scaling, pipeline(needs)),
                "undo": partial(roll_back, scaling, pipeline(needs, fails=True)),
            }
            found[form.__name__] = {
                name: seconds / STAGES * 1e6 for name, seconds in medians(ways, rounds * 20).items()
            }
    return found


def compare_sizes(scaling: PipelineScaling, rounds: int) -> dict[str, dict[str, float]]:
    """Microseconds a stage, layered, by their number."""
    found = {}
    for count in SIZES:
        needs = layered(count)
        ways: dict[str, Callable[[], object]] = {
            "run": partial(run, scaling, pipeline(needs)),
            "undo": partial(roll_back, scaling, pipeline(needs, fails=True)),
        }
        found[str(count)] = {
            name: seconds / count * 1e6 for name, seconds in medians(ways, rounds * max(1, 500 // count)).items()
        }
    return found


def compare_rollback(scaling: PipelineScaling, rounds: int) -> dict[str, float]:
    """Four stages side by side, one behind two of them and failing to be undone, and one behind all that fails."""

    def sleep(job: UndoJob) -> None:
        time.sleep(UNDO_SECONDS)

    def sleep_and_fail(job: UndoJob) -> None:
        time.sleep(UNDO_SECONDS)
        raise OSError("stuck")

    stages = [Stage(name=name, run=trivial, undo=sleep) for name in "abcd"]
    stages.append(Stage(name="e", run=trivial, undo=sleep_and_fail, needs=["a", "b"]))
    stages.append(Stage(name="x", run=fail, needs=["c", "d", "e"]))
    made = build("p", stages)
    results = [roll_back(scaling, made) for _ in range(rounds)]
    stranded = max(4 - len(result.with_fate("undone")) for result in results)
    took = statistics.median(result.seconds for result in results)
    return {"critical path": 2 * UNDO_SECONDS, "took": took, "stranded": float(stranded)}


# -- printing ----------------------------------------------------------------------------------------------------------


def form_rows(found: dict[str, dict[str, float]]) -> list[tuple[str, ...]]:
    """Of each form."""
    return [
        (name, f"{row['loop']:.1f}", f"{row['run']:.1f}", f"{row['run'] / row['loop']:.2f}", f"{row['undo']:.1f}")
        for name, row in found.items()
    ]


def size_rows(found: dict[str, dict[str, float]]) -> list[tuple[str, ...]]:
    """Of each size."""
    return [(name, f"{row['run']:.1f}", f"{row['undo']:.1f}") for name, row in found.items()]


def rollback_row(found: dict[str, float]) -> tuple[str, ...]:
    """Of undos that sleep."""
    ratio = found["took"] / found["critical path"]
    milliseconds = [f"{found[name] * 1e3:.1f} ms" for name in ("critical path", "took")]
    return ("a to e", *milliseconds, f"{ratio:.2f}", f"{found['stranded']:.0f}")


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they have to be."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    print()


if __name__ == "__main__":
    main()
