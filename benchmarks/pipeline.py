"""What a transaction of a pipeline costs, run and rolled back, beside a loop over ``graphlib`` and beside TaskFlow.

    python benchmarks/pipeline.py [--only stage,scale,...] [--rounds 9] [--folder DIR] [--json]

stage     Fifty trivial stages in three forms: a chain, all side by side, and layers of ten in which each needs two of
          the layer above. Each goes through the gate of the host, with an undo and captured state in every stage;
          rolled back, a last stage fails. "Loop" is what the page of ``graphlib`` shows, over ``ThreadPoolExecutor``
          and ``wait``: it has no captured state, no rollback, no deadline and no gate. TaskFlow has its parallel engine
          and an executor of the caller's, and what prepares its run is not timed.
scale     The layers, from 10 to 5,000 stages. A transaction of one stage shows what it costs by itself, whatever the
          number: a place in the gate, and a thread that is woken. "Further" is what each other stage adds to that.
rollback  Undos that sleep, against the longest way through the reverse graph: of the example of the page, with an undo
          that fails and without, and of graphs at random. Stranded is what is not undone though its own undo works.
capture   Twenty stages that each capture 11 MiB, a MiB above the limit, and are undone.
queue     A thousand transactions at four places and a queue of a hundred.
durable   Each step in the journal, for one transaction and for four at once.

Rounds alternate in one process; figures are medians. TaskFlow is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from graphlib import TopologicalSorter
from itertools import combinations
from pathlib import Path
from typing import Any

import pipeline_taskflow as taskflow
from pipeline_graphs import Needs, Way, at_random, chain, ends, layered, longest, medians, print_table, wide
from pipeline_load import Surroundings, compare_capture, compare_durable, compare_queue

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

STAGES = 50
SIZES = (1, 10, 50, 500, 5000)
UNDO_SECONDS = 0.05
MIB = 1024 * 1024
EXAMPLE: Needs = {"a": [], "b": [], "c": [], "d": [], "e": ["a", "b"]}
"""Of docs/plugins/pipeline.md#rollback; behind all of them is one that fails."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="parts, with commas between them")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--folder", type=Path, help="where the store and the journal are")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else list(PARTS)
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    found = {}
    if not options.json:
        print(f"Python {platform.python_version()}")
    for name in wanted:
        measure, show = PARTS[name]
        found[name] = measure(options)
        if not options.json:
            print(f"\n{name}")
            show(found[name])
    if options.json:
        print(json.dumps(found, indent=2))


# -- pipelines ---------------------------------------------------------------------------------------------------------


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
        stages.append(Stage(name="last", run=fail, needs=ends(needs)))
    return build("p", stages, max_depth=len(stages))


def sleeping(needs: Needs, seconds: dict[str, float], stuck: str = "") -> Pipeline:
    """Stages whose undos sleep; that of `stuck` fails. One more, behind all of them, fails."""

    def sleep(job: UndoJob) -> None:
        time.sleep(seconds[job.stage])
        if job.stage == stuck:
            raise OSError("stuck")

    stages = [Stage(name=name, run=trivial, undo=sleep, needs=wanted) for name, wanted in needs.items()]
    return build("p", [*stages, Stage(name="last", run=fail, needs=ends(needs))])


def pipelines() -> PipelineScaling:
    """With the gate of the host, and no store: these states are small."""
    return PipelineScaling(PipelineSettings(max_depth=max(SIZES)), Surroundings())


# -- ways --------------------------------------------------------------------------------------------------------------


def loop(pool: ThreadPoolExecutor, needs: Needs, thing: None) -> None:
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


def run(scaling: PipelineScaling, made: Pipeline, thing: None) -> None:
    """To a good end."""
    assert scaling.run(made).outcome == "done"


def roll_back(scaling: PipelineScaling, made: Pipeline, thing: None = None) -> TransactionResult:
    """To the bad end that is meant."""
    try:
        scaling.run(made)
    except TransactionFailed as error:
        result = error.result
    else:
        raise AssertionError("it came to a good end")
    assert result is not None
    return result


# -- stage -------------------------------------------------------------------------------------------------------------


def compare_forms(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Microseconds a stage: the loop, and run, and run and undone."""
    found = {}
    scaling = pipelines()
    with ThreadPoolExecutor(2) as pool:
        for form in (chain, wide, layered):
            needs = form(STAGES)
            ways = {
                "loop": Way(partial(loop, pool, needs), times=20),
                "run": Way(partial(run, scaling, pipeline(needs)), times=20),
                "undo": Way(partial(roll_back, scaling, pipeline(needs, fails=True)), times=20),
            }
            if taskflow.IS_THERE:
                ways["TaskFlow run"] = taskflow.way(needs, pool)
                ways["TaskFlow undo"] = taskflow.way(needs, pool, fails=True)
            taken = medians(ways, options.rounds)
            found[form.__name__] = {name: seconds / STAGES * 1e6 for name, seconds in taken.items()}
    scaling.close()
    return found


def show_forms(found: dict[str, dict[str, float]]) -> None:
    """A row for each form, and what it comes to."""
    columns = list(next(iter(found.values())))
    titles = {"undo": "run and undo all", "TaskFlow run": "TaskFlow", "TaskFlow undo": "TaskFlow, and undo all"}
    head = ("us a stage", *(titles.get(name, name) for name in columns))
    print_table(head, [(form, *(f"{row[name]:.1f}" for name in columns)) for form, row in found.items()])
    row = found["layered"]
    print(f"    layered: {row['run']:.1f} us; goal: at most 50")
    if "TaskFlow run" in row:
        print(f"    layered: 1/{row['TaskFlow run'] / row['run']:.0f} of TaskFlow; goal: at most 1/20")
        print(f"    and undone: 1/{row['TaskFlow undo'] / row['undo']:.0f} of TaskFlow; goal: at most 1/30")


# -- scale -------------------------------------------------------------------------------------------------------------


def compare_sizes(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Microseconds a stage, layered, by their number."""
    scaling = pipelines()
    ways = {}
    for count in SIZES:
        needs, times = layered(count), min(max(1, 500 // count), 50)
        ways[f"run {count}"] = Way(partial(run, scaling, pipeline(needs)), times=times)
        ways[f"undo {count}"] = Way(partial(roll_back, scaling, pipeline(needs, fails=True)), times=times)
    taken = medians(ways, options.rounds)
    scaling.close()
    return {str(count): {name: taken[f"{name} {count}"] / count * 1e6 for name in ("run", "undo")} for count in SIZES}


def show_sizes(found: dict[str, dict[str, float]]) -> None:
    """Rows for each way, and how flat they are."""
    rows, notes = [], []
    for name, title in (("run", "run"), ("undo", "run and undo all")):
        costs = [found[str(count)][name] for count in SIZES]
        rows.append((title, *(f"{cost:.1f}" for cost in costs)))
        rows.append((f"{title}, further", "", *(f"{_further(found, name, count):.1f}" for count in SIZES[1:])))
        growth = max(after / before for before, after in combinations(costs[1:], 2))
        spread = max(costs[1:]) / min(costs[1:])
        notes.append(f"{title}, from 10 on: grows to {growth:.2f} at most; goal: 1.5; slowest to fastest {spread:.2f}")
    print_table(("us a stage", *(f"{count:,}" for count in SIZES)), rows)
    for note in notes:
        print(f"    {note}")


def _further(found: dict[str, dict[str, float]], name: str, count: int) -> float:
    """What each stage adds to a transaction of one."""
    return (found[str(count)][name] * count - found["1"][name]) / (count - 1)


# -- rollback ----------------------------------------------------------------------------------------------------------


def compare_rollback(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Seconds of the longest way and those that it took, and how many were stranded at most."""
    scaling = pipelines()
    seconds = dict.fromkeys(EXAMPLE, UNDO_SECONDS)
    chance = random.Random(7)
    graphs = [at_random(30, seed) for seed in range(options.rounds)]
    drawn = [{name: chance.uniform(0.01, 0.04) for name in needs} for needs in graphs]
    found = {
        "the example": _rolled_back(scaling, [EXAMPLE] * options.rounds, [seconds] * options.rounds),
        "the undo of e fails": _rolled_back(scaling, [EXAMPLE] * options.rounds, [seconds] * options.rounds, "e"),
        "30 at random": _rolled_back(scaling, graphs, drawn),
    }
    scaling.close()
    if taskflow.IS_THERE:
        found["TaskFlow, the example"] = _reverted(options.rounds)
        found["TaskFlow, the undo of e fails"] = _reverted(options.rounds, "e")
    return found


def _rolled_back(
    scaling: PipelineScaling, graphs: list[Needs], seconds: list[dict[str, float]], stuck: str = ""
) -> dict[str, float]:
    ratios, took, stranded = [], [], []
    for needs, each in zip(graphs, seconds, strict=True):
        result = roll_back(scaling, sleeping(needs, each, stuck))
        took.append(result.seconds)
        ratios.append(result.seconds / longest(needs, each))
        stranded.append(len(needs) - bool(stuck) - len(result.with_fate("undone")))
    return {"took": statistics.median(took), "ratio": statistics.median(ratios), "stranded": max(stranded)}


def _reverted(rounds: int, stuck: str = "") -> dict[str, float]:
    seconds = dict.fromkeys(EXAMPLE, UNDO_SECONDS)
    took, stranded = [], []
    with ThreadPoolExecutor(8) as pool:
        for _ in range(rounds):
            engine = taskflow.engine(EXAMPLE, pool, seconds, stuck)
            began = time.perf_counter()
            taskflow.run(engine)
            took.append(time.perf_counter() - began)
            stranded.append(len(EXAMPLE) - bool(stuck) - taskflow.reverted(engine, list(EXAMPLE)))
    middle = statistics.median(took)
    return {"took": middle, "ratio": middle / (2 * UNDO_SECONDS), "stranded": max(stranded)}


def show_rollback(found: dict[str, dict[str, float]]) -> None:
    """A row for each graph."""
    rows = [
        (name, f"{row['took'] * 1e3:.1f} ms", f"{row['ratio']:.2f}", f"{row['stranded']:.0f}")
        for name, row in found.items()
    ]
    print_table(("undos that sleep", "took", "to the longest way", "stranded"), rows)
    print("    goal: at most 1.25 of the longest way, and none stranded")


# -- the rest ----------------------------------------------------------------------------------------------------------


def show_capture(found: dict[str, float]) -> None:
    """What was where."""
    sizes = {name: f"{found[name] / MIB:.0f} MiB" for name in ("captured", "spilled", "resident", "goal")}
    print(f"    captured {sizes['captured']} in {found['stages']:.0f} stages, in the store {sizes['spilled']} of it")
    print(f"    {found['undone with what was captured']:.0f} undone with what was captured")
    print(f"    files of the store afterwards: {found['left in the store'] / MIB:.1f} MiB")
    print(f"    resident set: {sizes['resident']} more at most; goal: at most {sizes['goal']}")


def show_queue(found: dict[str, Any]) -> None:
    """Who ran."""
    counts = (f"{count:,} {name}" for name, count in found.items() if name != "came")
    print(f"    {found['came']:,} came: {', '.join(counts)}")
    print("    goal: 104 accepted and as many ran, 896 refused, none lost or out of order")


def show_durable(found: dict[str, dict[str, float]]) -> None:
    """A row for each number of transactions."""
    rows = [
        (f"{side} at once", *(f"{row[name] * 1e3:.3f} ms" for name in ("in memory", "durable", "a record")))
        for side, row in found.items()
    ]
    print_table(("a stage", "in memory", "durable", "a record of the journal alone"), rows)
    print(f"    {max(row['durable'] for row in found.values()) * 1e3:.2f} ms a stage; goal: at most 1")


PARTS: dict[str, tuple[Callable[[argparse.Namespace], Any], Callable[[Any], None]]] = {
    "stage": (compare_forms, show_forms),
    "scale": (compare_sizes, show_sizes),
    "rollback": (compare_rollback, show_rollback),
    "capture": (lambda options: compare_capture(options.folder), show_capture),
    "queue": (lambda options: compare_queue(), show_queue),
    "durable": (lambda options: compare_durable(options.rounds, options.folder), show_durable),
}


if __name__ == "__main__":
    main()
