"""What a crash left half done: found in the journal, and brought to an end."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import attrs
from weighbridge_hookspecs import Cancelled, StageFailed, StateRefused, StorageDamaged, Store, WeighbridgeError

from .cancel import CancelToken
from .capture import Captured, Shelf, fetch
from .durable import Recorder, TransactionLog
from .graph import Pipeline
from .history import History, OnOpen, Plan, fingerprint_of, plan
from .records import Value
from .result import TransactionResult, Transition
from .runner import Runner
from .stage import Job, Stage
from .transaction import Past, in_words

Come: TypeAlias = Literal["running", "done", "failed", "undoing", "undone", "undo failed"]


@attrs.frozen(kw_only=True)
class OpenTransaction:
    """A transaction that an earlier process left open."""

    transaction: str
    pipeline: str
    is_rolling_back: bool
    stages: Mapping[str, Come]
    """What had become of those that had begun; ``"running"`` where the process ended under one."""


@attrs.frozen(kw_only=True)
class Recovery:
    """What became of the transactions that an earlier process left open."""

    results: tuple[TransactionResult, ...]
    """Of those that have ended now."""
    refused: tuple[WeighbridgeError, ...]
    """Why the others have not. They stay as they are, for the next time."""


@attrs.frozen(kw_only=True)
class Case:
    """An open transaction with what is needed to end it."""

    history: History
    pipeline: Pipeline
    plan: Plan
    inputs: Any = attrs.field(repr=False)
    results: dict[int, Any] = attrs.field(repr=False)
    """What stages gave, as far as it is needed, by their place."""
    shelf: Shelf
    failed: dict[int, str] = attrs.field(factory=dict)
    """Stages that were run again in vain, and what they raised."""

    def recorder(self, log: TransactionLog) -> Recorder:
        """Goes on writing where the journal ends."""
        ended = self.plan.done | self.plan.undone | self.plan.given_up
        return Recorder(log, self.pipeline, done=ended, has_turned_back=self.history.has_turned_back)

    def past(self) -> Past:
        """What the transaction begins with."""
        history, planned = self.history, self.plan
        places = {stage.name: place for place, stage in enumerate(self.pipeline.stages)}
        return Past(
            done={place: self.results.get(place) for place in planned.done.union(planned.again) - set(self.failed)},
            failed={**{places[name]: words for name, words in history.failed.items()}, **self.failed},
            undone=planned.undone,
            undo_failed={place: self._words(place) for place in planned.given_up},
            attempts={places[name]: attempts for name, attempts in history.attempts.items()},
            reason=self._reason(),
        )

    def _reason(self) -> Exception | None:
        for place, words in self.failed.items():
            name = self.pipeline.stages[place].name
            return StageFailed(f"stage {name!r} failed when it was given its key again: {words}", stage=name)
        if self.plan.goes_on:
            return None
        return Cancelled("the process ended while the transaction ran", step="recover")

    def _words(self, place: int) -> str:
        name = self.pipeline.stages[place].name
        return self.history.undo_failed.get(name, "its undo did not end in time, and the process has ended since")


def open_transaction(history: History) -> OpenTransaction:
    """How far it came."""
    stages: dict[str, Come] = dict.fromkeys(sorted(history.started), "running")
    stages |= dict.fromkeys(history.done, "done")
    stages |= dict.fromkeys(history.failed, "failed")
    stages |= dict.fromkeys(history.undoing, "undoing")
    stages |= dict.fromkeys(history.undo_failed, "undo failed")
    stages |= dict.fromkeys(history.undone, "undone")
    return OpenTransaction(
        transaction=history.transaction,
        pipeline=history.pipeline,
        is_rolling_back=history.has_turned_back,
        stages=stages,
    )


def case_of(
    history: History, pipelines: Mapping[str, Pipeline], on_open: OnOpen, shelf: Shelf, store: Callable[[], Store]
) -> Case:
    """Find the pipeline again, and read what the transaction needs.

    :raises StateRefused: if the pipeline was not given or has another graph, or a value cannot be unpickled.
    :raises StorageDamaged: if a value is gone.
    """
    pipeline = _pipeline_of(history, pipelines)
    planned = plan(history, pipeline, on_open)
    for name, packed in history.captured.items():
        shelf.adopt(name, Captured.restored(packed))
    results = {
        place: _load(history, f"the result of stage {name!r}", history.results.get(name), store)
        for place in _needed(pipeline, planned)
        for name in (pipeline.stages[place].name,)
    }
    inputs = None
    if planned.again or (planned.goes_on and len(planned.done) < len(pipeline)):
        inputs = _load(history, "the inputs", history.inputs, store)
    return Case(history=history, pipeline=pipeline, plan=planned, inputs=inputs, results=results, shelf=shelf)


def settle(case: Case, recorder: Recorder, runner_for: Callable[[int], Runner], seconds: float) -> None:
    """Run the stages again of which nobody knows whether they have had their effect: then they can be undone.

    They get the key that they had, and time, whatever becomes of the others. One that raises has failed, as in any run,
    and says by that that nothing of it is left.

    :param runner_for: where a stage is run, by its place.
    :param seconds: what each may take that has no deadline of its own.
    :raises StateRefused: if one that failed was needed by another one that had begun: that can be run again no more;
        or if what one gave cannot be pickled.
    :raises LeaseError: if the journal or the store does not take it.
    """
    for place in case.plan.again:
        stage = case.pipeline.stages[place]
        lost = [case.pipeline.stages[need].name for need in case.pipeline.needs[place] if need in case.failed]
        if lost:
            raise StateRefused(
                f"transaction {case.history.transaction}: stage {stage.name!r} had begun when the process ended, and "
                f"cannot be given its key again: {', '.join(lost)} failed now, whose result it needs",
                step="recover",
                advice="Recover once more when they can be run; nothing of the transaction was undone by this attempt",
            )
        future = runner_for(place).submit(stage.run, _job(case, place, stage, seconds))
        error = future.exception()
        if error is None:
            case.results[place] = future.result()
            _write_done(case, stage, recorder, case.results[place])
        else:
            case.failed[place] = in_words(error)
            if not _is_needed(case, place):
                _tell(case, stage, recorder, kind="stage failed", error=case.failed[place])
        del error


def _is_needed(case: Case, place: int) -> bool:
    return any(other in case.plan.again for other in case.pipeline.needed_by[place])


def _job(case: Case, place: int, stage: Stage, seconds: float) -> Job:
    token = CancelToken(time.monotonic() + (stage.deadline_seconds or seconds))
    stages = case.pipeline.stages
    needed = {stages[need].name: case.results[need] for need in case.pipeline.needs[place]}
    return Job(case.history.transaction, stage.name, case.inputs, needed, token)


def _write_done(case: Case, stage: Stage, recorder: Recorder, result: Any) -> None:
    """That it cannot be written does not mean that the stage has failed: what it did is there."""
    try:
        if stage.undo is not None:
            picked = result if stage.capture is None else stage.capture(result)
            _tell(case, stage, recorder, kind="captured", captured=case.shelf.keep(stage.name, picked))
        _tell(case, stage, recorder, kind="stage done", result=result)
    except WeighbridgeError:
        raise
    except Exception as error:
        words = in_words(error)
    else:
        return
    raise StateRefused(
        f"transaction {case.history.transaction}: what stage {stage.name!r} gave cannot be kept: {words}",
        step="recover",
        advice="Recover once more when it can be pickled; the stage is given its key again then",
    )


def _tell(case: Case, stage: Stage, recorder: Recorder, **facts: Any) -> None:
    transaction, pipeline = case.history.transaction, case.pipeline.name
    recorder(Transition(transaction=transaction, pipeline=pipeline, stage=stage.name, **facts))


def _pipeline_of(history: History, pipelines: Mapping[str, Pipeline]) -> Pipeline:
    pipeline = pipelines.get(history.pipeline)
    if pipeline is None:
        raise StateRefused(
            f"transaction {history.transaction} is of pipeline {history.pipeline!r}, which was not given",
            step="recover",
            advice="Build that pipeline and recover again; the transaction stays as it is",
        )
    fingerprint = fingerprint_of(pipeline)
    if fingerprint != history.fingerprint:
        raise StateRefused(
            f"transaction {history.transaction} was begun with another graph of pipeline {history.pipeline!r}",
            step="recover",
            wanted=f"fingerprint {history.fingerprint}",
            had=fingerprint,
            advice="Recover with the stages, and what each needs, as they were; the transaction stays as it is",
        )
    return pipeline


def _needed(pipeline: Pipeline, planned: Plan) -> list[int]:
    """Stages that are done and whose results somebody still gets."""
    begins = set(range(len(pipeline))) - planned.done if planned.goes_on else set(planned.again)
    return [
        place
        for place in sorted(planned.done)
        if any(other in begins for other in pipeline.needed_by[place])
        or (planned.goes_on and (pipeline.stages[place].keep or not pipeline.needed_by[place]))
    ]


def _load(history: History, what: str, value: Value | None, store: Callable[[], Store]) -> Any:
    try:
        if value is None:
            raise ValueError("it is not in the journal")
        return pickle.loads(value if isinstance(value, bytes) else fetch(store(), value))
    except StorageDamaged:
        raise
    except Exception as error:
        words = in_words(error)
    raise StateRefused(
        f"transaction {history.transaction}: {what} cannot be read: {words}",
        step="recover",
        advice="Have the classes importable that it is made of; the transaction stays as it is",
    )
