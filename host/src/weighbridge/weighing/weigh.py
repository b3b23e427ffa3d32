"""Weighing: the order of the tasks, and what is made of their answers."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from weighbridge_hookspecs import Candidate

from ..admission.weights import Weight, Weights
from ..reclaim.receipt import Survivor
from ..reclaim.ties.tie import Cut
from ..reclaim.ties.tie import Finding as Tied
from .records import Check, Explanation, Finding, Weighing
from .task import Answer, Kind, Task, run_task


def weigh(
    candidate: Candidate, *, rounds: int = 1, timeout_seconds: float = 120.0, settings: Mapping[str, Any] | None = None
) -> Weighing:
    """Weigh one plugin in fresh interpreters.

    The first one tells which modules of the standard library it needs, and which of the host's own, and leaves compiled
    bytecode on disk for the others. The second one imports those, and then traces and unloads the plugin; `rounds` more
    only take the time, with the host's there before.

    :param timeout_seconds: for each interpreter.
    """
    task = _task("stdlib", candidate, settings=dict(settings or {}))
    answer = run_task(task, timeout_seconds=timeout_seconds)
    if answer.status == "ok":
        host, stdlib = tuple(answer.content["host"]), tuple(answer.content["stdlib"])
        task = attrs.evolve(task, kind="trace", host=host, stdlib=stdlib)
        answer = run_task(task, timeout_seconds=timeout_seconds)
    weighing = _weighing(candidate, answer)
    if weighing.status != "ok":
        return weighing
    timings = []
    for _ in range(rounds):
        timing = run_task(attrs.evolve(task, kind="time"), timeout_seconds=timeout_seconds)
        if timing.status != "ok":
            return attrs.evolve(weighing, status=timing.status, error=timing.error)
        timings.append(timing.content)
    return attrs.evolve(
        weighing,
        import_seconds=statistics.median(timing["import_seconds"] for timing in timings),
        resident_bytes=int(statistics.median(timing["resident_bytes"] for timing in timings)),
    )


def remember(candidate: Candidate, weighing: Weighing, weights: Weights) -> None:
    """Keep what a plugin weighed, for admission.

    :raises OSError: if the folder of weights cannot be written.
    """
    if weighing.traced_bytes is None or weighing.resident_bytes is None or weighing.import_seconds is None:
        return
    traced = weighing.traced_bytes + (weighing.stdlib_bytes or 0)
    weight = Weight(
        traced_bytes=max(0, traced),
        resident_bytes=max(0, weighing.resident_bytes),
        import_seconds=weighing.import_seconds,
    )
    weights.put(candidate, weight)


def check(candidate: Candidate, *, rounds: int = 5, timeout_seconds: float = 120.0, python: str | None = None) -> Check:
    """Check one plugin in a fresh interpreter.

    :param python: the interpreter of another environment, in which the plugin is installed.
    """
    task = _task("check", candidate, rounds=rounds)
    if python is not None:
        task = attrs.evolve(task, path=())
    answer = run_task(task, timeout_seconds=timeout_seconds, python=python)
    findings = tuple(Finding(**finding) for finding in answer.content.get("findings", ()))
    return Check(
        name=candidate.name,
        distribution=candidate.distribution,
        version=candidate.version,
        status=answer.status,
        passed=answer.status == "ok" and all(finding.passed for finding in findings),
        findings=findings,
        error=answer.error,
        traceback=answer.traceback,
    )


def explain(
    candidate: Candidate,
    *,
    cut: Cut = "safe",
    dependencies: bool = True,
    graph: bool = False,
    timeout_seconds: float = 120.0,
    settings: Mapping[str, Any] | None = None,
) -> Explanation:
    """Load and unload one plugin in a fresh interpreter, and say what keeps the rest of it.

    :param cut: which ties to cut; with ``"none"`` everything that would hold it is found at work.
    :param dependencies: unload the dependencies that nobody else uses, too.
    :param graph: draw the ways to some of the survivors; needs objgraph.
    """
    options = {"cut": cut, "dependencies": dependencies, "graph": graph, "settings": dict(settings or {})}
    answer = run_task(_task("explain", candidate, **options), timeout_seconds=timeout_seconds)
    content = dict(answer.content)
    return Explanation(
        name=candidate.name,
        distribution=candidate.distribution,
        version=candidate.version,
        group=candidate.group,
        status=answer.status,
        error=answer.error,
        traceback=answer.traceback,
        survivors=_survivors(content.pop("survivors", ())),
        ties=tuple(Tied(**one) for one in content.pop("ties", ())),
        kept_modules=tuple(content.pop("kept_modules", ())),
        failures=tuple(content.pop("failures", ())),
        **content,
    )


def _task(kind: Kind, candidate: Candidate, **options: Any) -> Task:
    return Task(kind=kind, group=candidate.group, name=candidate.name, path=tuple(sys.path), **options)


def _weighing(candidate: Candidate, answer: Answer) -> Weighing:
    content = dict(answer.content)
    return Weighing(
        name=candidate.name,
        distribution=candidate.distribution,
        version=candidate.version,
        group=candidate.group,
        status=answer.status,
        error=answer.error,
        survivors=_survivors(content.pop("survivors", ())),
        kept_modules=tuple(content.pop("kept_modules", ())),
        **content,
    )


def _survivors(plain: Iterable[Mapping[str, Any]]) -> tuple[Survivor, ...]:
    return tuple(Survivor(**{**one, "chain": tuple(one["chain"])}) for one in plain)
