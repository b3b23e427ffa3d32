"""A program that kills processes in the middle of durable transactions, and looks at what recovery makes of it.

It forks a child for each run, which is sound because no thread is ever begun in this process. It prints one JSON
document, which ``test_pipeline_durable_kill.py`` reads. The store, the journal and the gate are the host's own.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from weighbridge_pipeline import (
    Job,
    Pipeline,
    PipelineScaling,
    PipelineSettings,
    Stage,
    TransactionFailed,
    UndoJob,
    build,
)

# By their names: the host is no dependency of the plugin.
ConcurrencyGate: Any = importlib.import_module("weighbridge.leases.gate").ConcurrencyGate
Journal: Any = importlib.import_module("weighbridge.leases.journal").Journal
StoreFile: Any = importlib.import_module("weighbridge.leases.store").StoreFile

GRAPH = {"a": (), "b": ("a",), "c": ("a",), "d": ("b",), "e": ("b", "c"), "f": ("d", "e")}
WITHOUT_UNDO = {"d"}
LARGE = "c"  # its state and its result are too large for the journal
KIB = 1024
DEADLINE = 60.0


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(DEADLINE)


class Ledger:
    """The world outside: what was done to it, line by line, and which key it was done for."""

    def __init__(self, folder: Path, dies: str | None) -> None:
        self._path = folder / "ledger"
        self._dies = dies

    def lines(self) -> list[tuple[str, ...]]:
        if not self._path.exists():
            return []
        return [tuple(line.split()) for line in self._path.read_text().splitlines()]

    def write(self, *words: str) -> None:
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(file, (" ".join(words) + "\n").encode())
        os.close(file)

    def act(self, verb: str, key: str, *more: str) -> None:
        """Once for each key, as a stage has to that is idempotent."""
        stage = key.partition("/")[2]
        self.write("call", verb, stage)
        if self._dies == f"ahead of {verb} {stage}":
            die()
        if not any(line[:2] == (verb, stage) for line in self.lines()):
            self.write(verb, stage, *more)
        if self._dies == f"behind {verb} {stage}":
            die()


class DeadlyJournal(Journal):  # type: ignore[misc]  # by its name it has no type
    """A real journal in a process that dies ahead of or behind one of its records."""

    dies: str | None = None
    count = 0

    def append(self, payload: Any, **options: Any) -> Any:
        self.count += 1
        number = self.count
        if self.dies == f"ahead of record {number}":
            die()
        sequence = super().append(payload, **options)
        if self.dies == f"behind record {number}":
            die()
        return sequence


class Gate(ConcurrencyGate):  # type: ignore[misc]  # by its name it has no type
    release = ConcurrencyGate.close


class Surroundings:
    def __init__(self, folder: Path, dies: str | None) -> None:
        self.file = StoreFile(folder / "store")
        self.store = self.file.namespace("pipeline")
        self._folder, self._dies = folder, dies
        self.records = 0
        self.opened: DeadlyJournal | None = None

    def gate(self, limit: int, **options: Any) -> Gate:
        return Gate(limit, **options)

    def journal(self, name: str = "journal", **options: Any) -> Journal:
        self.opened = DeadlyJournal(self._folder / name, **options)
        self.opened.dies = self._dies
        return self.opened


def made_by(stage: str, needed: dict[str, str]) -> str:
    """What a stage gives: short, but a text that only these results make."""
    return stage + "(" + ",".join(value.strip("*") for _, value in sorted(needed.items())) + ")"


def pipeline_of(ledger: Ledger) -> Pipeline:
    def run(job: Job) -> Any:
        if job.stage == "f" and job.inputs["fails"]:
            ledger.write("call", "do", "f")
            raise ValueError("f does not work")
        made = made_by(job.stage, dict(job.results))
        ledger.act("do", job.key, made)
        return made + "*" * (20 * KIB if job.stage == LARGE else 0)

    def undo(job: UndoJob) -> None:
        ledger.act("undo", job.key, job.captured.strip("*"))

    stages = [
        Stage(name=name, run=run, undo=None if name in WITHOUT_UNDO else undo, needs=needs)
        for name, needs in GRAPH.items()
    ]
    return build("six", stages)


def in_a_child(work: Callable[[], None]) -> int:
    """Have it done in a child; 0 if that ended well, and -9 if it was killed."""
    child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(folder: Path, dies: str | None, fails: bool) -> Callable[[], None]:
    def work() -> None:
        surroundings = Surroundings(folder, dies)
        scaling = PipelineScaling(PipelineSettings(), surroundings)
        try:
            scaling.run(pipeline_of(Ledger(folder, dies)), {"fails": fails}, durable=True, deadline_seconds=DEADLINE)
        except TransactionFailed:
            assert fails
        assert surroundings.opened is not None
        (folder / "records").write_text(str(surroundings.opened.count))

    return work


def recover(folder: Path, dies: str | None, on_open: Any) -> Callable[[], None]:
    def work() -> None:
        surroundings = Surroundings(folder, dies)
        ledger = Ledger(folder, dies)
        scaling = PipelineScaling(PipelineSettings(), surroundings)
        scaling.sweep(keep=scaling.is_open)  # as the plugin does when it is activated
        known = [name for one in scaling.open_transactions() for name, come in one.stages.items() if come == "done"]
        ledger.write("recovery", *known)
        recovery = scaling.recover([pipeline_of(ledger)], on_open=on_open, deadline_seconds=DEADLINE)
        assert not recovery.refused, recovery.refused
        assert not scaling.open_transactions()
        left = list(surroundings.store.keys("internal/"))
        assert not left, left
        scaling.close()

    return work


def problems(folder: Path) -> Iterator[str]:
    """What is wrong with the ledger."""
    lines = Ledger(folder, None).lines()
    done = Counter(line[1] for line in lines if line[0] == "do")
    undone = Counter(line[1] for line in lines if line[0] == "undo")
    twice = [name for name, count in (done + undone).items() if done[name] > 1 or undone[name] > 1]
    if twice:
        yield f"more than once: {twice}"
    with_undo = set(GRAPH) - WITHOUT_UNDO
    if set(done) != set(GRAPH) and (with_undo & set(done)) != set(undone):
        yield f"half done: {sorted(done)} done, {sorted(undone)} undone"
    if undone and set(undone) != with_undo & set(done):
        yield f"half undone: {sorted(done)} done, {sorted(undone)} undone"
    made = {line[1]: line[2] for line in lines if line[0] == "do"}
    yield from (
        f"{line[1]} was undone with {line[2]}" for line in lines if line[0] == "undo" and line[2] != made[line[1]]
    )
    yield from _out_of_order(lines)
    yield from _begun_again(lines)


def _out_of_order(lines: list[tuple[str, ...]]) -> Iterator[str]:
    order = [line[1] for line in lines if line[0] == "undo"]
    for name, needs in GRAPH.items():
        for need in needs:
            if name in order and need in order and order.index(name) > order.index(need):
                yield f"{need} was undone before {name}"


def _begun_again(lines: list[tuple[str, ...]]) -> Iterator[str]:
    known: set[str] = set()
    for line in lines:
        if line[0] == "recovery":
            known.update(line[1:])
        elif line[:2] == ("call", "do") and line[2] in known:
            yield f"{line[2]} was begun again although its end was in the journal"


def points(folder: Path, fails: bool) -> list[str]:
    """Where to kill: around every record, and around what every stage and undo does."""
    folder.mkdir()
    assert in_a_child(run(folder, None, fails)) == 0
    records = int((folder / "records").read_text())
    found = [f"{where} record {number}" for number in range(1, records + 1) for where in ("ahead of", "behind")]
    for verb, names in (("do", sorted(GRAPH)), ("undo", sorted(set(GRAPH) - WITHOUT_UNDO - {"f"}) if fails else [])):
        found += [f"{where} {verb} {name}" for name in names for where in ("ahead of", "behind")]
    return found


def try_point(folder: Path, point: str, fails: bool, number: int) -> Iterator[dict[str, Any]]:
    folder.mkdir()
    code = in_a_child(run(folder, point, fails))
    for on_open in ("rollback", "resume"):
        copy = folder.with_name(f"{folder.name}-{on_open}")
        shutil.copytree(folder, copy)
        where = "ahead of" if number % 2 else "behind"
        second = in_a_child(recover(copy, f"{where} record {1 + number // 2 % 6}", on_open))
        last = in_a_child(recover(copy, None, on_open))
        found = list(problems(copy)) + ([f"the last recovery ended with {last}"] if last else [])
        found += _wrong_outcome(copy, fails, on_open, code)
        yield {"point": point, "fails": fails, "on_open": on_open, "killed": [code, second], "problems": found}
        shutil.rmtree(copy)
    shutil.rmtree(folder)


def _wrong_outcome(folder: Path, fails: bool, on_open: str, code: int) -> list[str]:
    """On resuming everything is done that can be, and nothing is undone."""
    lines = Ledger(folder, None).lines()
    done, undone = [{line[1] for line in lines if line[0] == verb} for verb in ("do", "undo")]
    has_begun = bool(done)
    if on_open == "resume" and has_begun and not fails and (done != set(GRAPH) or undone):
        return [f"not resumed: {sorted(done)} done, {sorted(undone)} undone"]
    if fails and on_open == "resume" and has_begun and not undone:
        return ["not rolled back"]
    return []


def main() -> None:
    """Kill at every point of both ways, and print what came of it."""
    base = Path(sys.argv[1])
    cases: list[dict[str, Any]] = []
    for fails in (False, True):
        for number, point in enumerate(points(base / f"count-{fails}", fails)):
            cases += try_point(base / f"{fails}-{number}", point, fails, number)
    json.dump(cases, sys.stdout)


if __name__ == "__main__":
    main()
