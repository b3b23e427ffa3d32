"""What the benchmark of pipelines asks of a host: captured state that spills, a full queue, and the journal."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline_graphs import Way, chain, ends, layered, medians
from weighbridge_hookspecs import Gate, Saturated
from weighbridge_hookspecs.services import Priority

from weighbridge import Host
from weighbridge.leases.gate import ConcurrencyGate
from weighbridge.leases.journal import Journal
from weighbridge_pipeline import (
    Handle,
    Job,
    PipelineScaling,
    PipelineSettings,
    Stage,
    TransactionFailed,
    UndoJob,
    build,
)

MIB = 1024 * 1024
CAPTURED = 11 * MIB
LIMIT = 10 * MIB
HOLDERS = 20
ARRIVALS, PLACES, QUEUE = 1_000, 4, 100
PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")


class Surroundings:
    """The gate of the host, and no store."""

    store: Any = None

    def __init__(self) -> None:
        self.gates: list[ConcurrencyGate] = []

    def gate(self, limit: int, *, max_waiting: int | None = None, reserve: float = 0.0) -> Gate:
        """One, which is remembered."""
        self.gates.append(ConcurrencyGate(limit, max_waiting, reserve=reserve))
        return self.gates[-1]

    def journal(self, name: str, *, max_bytes: int = 0) -> Any:
        """None here."""
        raise NotImplementedError(name)


@contextmanager
def hosted(folder: Path) -> Iterator[PipelineScaling]:
    """The plugin in a host with a store."""
    host = Host("4 GiB", store=folder / "store")
    try:
        host.load("pipeline")
        yield host.capabilities["pipeline"]
    finally:
        host.close()


# -- captured state ----------------------------------------------------------------------------------------------------


def compare_capture(folder: Path | None) -> dict[str, float]:
    """Twenty stages that each capture 11 MiB of their own, one after the other, and are all undone."""
    seen: list[bool] = []

    def produce(job: Job) -> bytes:
        return job.stage.encode().ljust(CAPTURED, b".")

    def check(job: UndoJob) -> None:
        seen.append(job.captured == job.stage.encode().ljust(CAPTURED, b"."))

    needs = chain(HOLDERS)
    stages = [Stage(name=name, run=produce, undo=check, needs=wanted) for name, wanted in needs.items()]
    stages.append(Stage(name="last", run=_fail, needs=ends(needs)))
    with tempfile.TemporaryDirectory(dir=folder) as parent, hosted(Path(parent)) as scaling:
        before = resident()
        with watching(resident) as most, suppress(TransactionFailed):
            scaling.run(build("capture", stages), deadline_seconds=600)
        spilled = scaling.statistics().spilled_bytes
        kept = sum(path.stat().st_size for path in Path(parent).rglob("*") if path.is_file())
    return {
        "stages": HOLDERS,
        "captured": HOLDERS * CAPTURED,
        "spilled": spilled,
        "resident": max(most) - before,
        "goal": HOLDERS * LIMIT,
        "undone with what was captured": sum(seen),
        "left in the store": kept,
    }


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@contextmanager
def watching(figure: Callable[[], int]) -> Iterator[list[int]]:
    """The highest that a figure was at, looked at every two milliseconds."""
    most, stop = [figure()], threading.Event()

    def watch() -> None:
        while not stop.wait(0.002):
            most[0] = max(most[0], figure())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        stop.set()
        watcher.join()


def _fail(job: Job) -> None:
    raise ValueError("no")


# -- the queue ---------------------------------------------------------------------------------------------------------


def compare_queue() -> dict[str, Any]:
    """A thousand transactions come one after the other to four places and a queue of a hundred; none ends before.

    Then they end one at a time, so that the order in which places are given is the order in which stages run. Who
    waits is of all three priorities in turn, and who comes after them of the lowest, so that nobody makes room.
    """
    surroundings = Surroundings()
    scaling = PipelineScaling(PipelineSettings(max_transactions=PLACES, max_waiting=QUEUE), surroundings)
    turn, ran = threading.Semaphore(0), list[tuple[int, int]]()

    def work(job: Job) -> None:
        ran.append(job.inputs)
        turn.acquire()

    one = build("one", [Stage(name="only", run=work)])
    handles = []
    for number in range(ARRIVALS):
        rank = number % 3 if PLACES <= number < PLACES + QUEUE else 2
        handles.append(scaling.submit(one, (rank, number), priority=PRIORITIES[rank], deadline_seconds=300))
        until(partial(has_come, surroundings.gates[0], number))
    for count in range(PLACES, PLACES + QUEUE):
        until(partial(has_run, ran, count))
        turn.release()
    for _ in range(PLACES):
        turn.release()
    outcomes = [outcome(handle) for handle in handles]
    scaling.close()
    waited = ran[PLACES:]
    return {
        "came": ARRIVALS,
        "accepted": outcomes.count("done"),
        "ran": len(ran),
        "refused": outcomes.count("saturated"),
        "lost": outcomes.count("lost"),
        "out of order": sum(before > after for before, after in pairwise(waited)),
    }


def outcome(handle: Handle) -> str:
    """What became of one."""
    try:
        return handle.result().outcome
    except Saturated:
        return "saturated"
    except Exception:
        return "lost"


def has_run(ran: list[tuple[int, int]], count: int) -> bool:
    """Whether so many have begun."""
    return len(ran) >= count


def has_come(gate: ConcurrencyGate, number: int) -> bool:
    """Whether the gate has seen it."""
    return arrived(gate) > number


def arrived(gate: ConcurrencyGate) -> int:
    """How many came to it so far."""
    figures = gate.statistics()
    return figures.entered + figures.waiting + figures.rejected


def until(condition: Callable[[], bool]) -> None:
    """Wait for it."""
    while not condition():
        time.sleep(0.0001)


# -- the journal -------------------------------------------------------------------------------------------------------


def compare_durable(rounds: int, folder: Path | None) -> dict[str, dict[str, float]]:
    """Fifty stages with undos, run and run durably; beside it one record of the journal, on disk; by transactions."""
    with tempfile.TemporaryDirectory(dir=folder) as parent, hosted(Path(parent)) as scaling:
        return {str(side): _durably(scaling, Path(parent) / f"alone-{side}", side, rounds) for side in (1, 4)}


def _durably(scaling: PipelineScaling, folder: Path, side: int, rounds: int) -> dict[str, float]:
    """With so many at once."""
    needs = layered(50)
    stages = [Stage(name=name, run=lambda job: 1, undo=_nothing, needs=wanted) for name, wanted in needs.items()]
    made = build("durable", stages)
    with Journal(folder) as journal, ThreadPoolExecutor(side) as pool:
        ways = {
            "in memory": Way(lambda _: beside(pool, side, lambda: scaling.run(made)), times=10),
            "durable": Way(lambda _: beside(pool, side, lambda: scaling.run(made, durable=True))),
            "a record": Way(lambda _: beside(pool, side, lambda: journal.append(b"x" * 100)), times=20),
        }
        taken = medians(ways, rounds)
    per_stage = {name: taken[name] / side / 50 for name in ("in memory", "durable")}
    return {**per_stage, "a record": taken["a record"] / side}


def beside(pool: ThreadPoolExecutor, side: int, work: Callable[[], object]) -> None:
    """So many at once."""
    for future in [pool.submit(work) for _ in range(side)]:
        future.result()


def _nothing(job: UndoJob) -> None:
    """An undo."""
