"""One run of a pipeline: forwards by counting what each stage still waits for, and backwards the same way.

Who works, goes on: the worker that has ended a stage takes one of those that can begin now, and hands out the others.
Only the caller blocks, in :meth:`Transaction.drive`, and it is also the one that keeps the time. Each stage costs one
turn of one lock. A pool with a queue of results, as ``graphlib`` shows it, costs several times as much, for each stage
goes through two queues and wakes two threads: https://docs.python.org/3/library/graphlib.html

Nothing here may hold what a stage raised once the caller has it. An error leads to its traceback, that to frames, and
those to what they hold and to who called them. So frames of this module are taken off the traceback, which begins with
the stage's own, and none of them keeps an error in a local variable.
"""

from __future__ import annotations

import heapq
import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any, Final

import attrs
from weighbridge_hookspecs import Cancelled, DeadlineExceeded, StageFailed, UndoFailed

from .cancel import CancelToken
from .capture import Shelf
from .graph import Pipeline
from .parcel import opened, unpacked
from .result import (
    Fate,
    Outcome,
    Progress,
    StageReport,
    TransactionFailed,
    TransactionResult,
    Transition,
    TransitionKind,
)
from .rollback import ReverseGraph
from .runner import Runner
from .stage import Job, Stage, UndoJob

_FATES: Final[tuple[Fate, ...]] = (
    "not started",
    "running",
    "done",
    "failed",
    "cancelled",
    "undoing",
    "undone",
    "undo failed",
)
_NOT_STARTED, _RUNNING, _DONE, _FAILED, _CANCELLED, _UNDOING, _UNDONE, _UNDO_FAILED = range(8)
_FORWARDS, _BACKWARDS, _OVER = range(3)
_EXPIRE, _STAGE, _UNDO, _RETRY = range(4)
_NOBODY: Final = -1


@attrs.frozen(kw_only=True)
class Runners:
    """Where a transaction has its functions run."""

    stages: Runner
    """What the caller asked for."""
    home: Runner
    """Threads of this process: the bookkeeping of what ran elsewhere, and undos that no other runner takes."""
    coroutines: Runner


@attrs.frozen(kw_only=True)
class Past:
    """What an earlier process did of a transaction; stages by their place in the pipeline."""

    done: Mapping[int, Any]
    """What they gave, as far as it is needed; with those whose undo is still to come."""
    failed: Mapping[int, str] = attrs.field(factory=dict)
    """Type and text of what they raised."""
    undone: Collection[int] = ()
    undo_failed: Mapping[int, str] = attrs.field(factory=dict)
    attempts: Mapping[int, int] = attrs.field(factory=dict)
    """To undo them."""
    reason: BaseException | None = None
    """Why it is to be rolled back; None: it goes on."""


@attrs.frozen(kw_only=True)
class Terms:
    """What a transaction has to keep to, and whom it tells.

    :ivar observer: told of each transition before it takes effect; what it raises ends the transaction.
    :ivar progress: told after it; what it raises is counted.
    """

    deadline: float
    """By ``time.monotonic()``."""
    deadline_seconds: float
    undo_deadline_seconds: float
    rollback_seconds: float
    observer: Callable[[Transition], object] | None = None
    progress: Callable[[Progress], object] | None = None
    is_durable: bool = False
    """Whether the captured state stays in the store if the observer could not be told of the end."""


class Transaction:
    """One run. Thread-safe."""

    def __init__(
        self, identifier: str, pipeline: Pipeline, inputs: Any, *, runners: Runners, shelf: Shelf, terms: Terms
    ) -> None:
        self.id: Final = identifier
        self.pipeline: Final = pipeline
        self.terms: Final = terms
        self.shelf: Final = shelf
        self.token: Final = CancelToken(terms.deadline)
        self.progress_failures = 0
        self._inputs = inputs
        self._runners = runners
        self._is_inline = runners.stages.can_run_inline
        self._is_observed = terms.observer is not None or terms.progress is not None
        self._lock = threading.RLock()  # the collector may run a finalizer that calls the transaction off
        count = len(pipeline.stages)
        self._phase = _FORWARDS
        self._fates = bytearray(count)
        self._waits_for = [len(needs) for needs in pipeline.needs]
        self._wanted_by = [len(others) for others in pipeline.needed_by]
        self._results: list[Any] = [None] * count
        self._began = [0.0] * count
        self._seconds: list[float | None] = [None] * count
        self._undo_seconds: list[float | None] = [None] * count
        self._attempts = [0] * count
        self._errors: list[tuple[int, bool, BaseException]] = []
        self._words: dict[int, str] = {}
        self._left = count
        self._done = 0
        self._reverse: ReverseGraph | None = None
        self._has_begun = False
        self._started = 0.0
        self._ended = 0.0
        self._gives_up_at = math.inf
        # The driver waits for this lock, which is taken as long as there is nothing to see to.
        self._signal = threading.Lock()
        self._signal.acquire()
        self._alarms: list[tuple[float, int, int, int]] = [(terms.deadline, _EXPIRE, _NOBODY, 0)]
        self._wakes_at = 0.0

    # -- for the caller ------------------------------------------------------------------------------------------------

    @property
    def has_begun(self) -> bool:
        """Whether a stage was handed out."""
        return self._has_begun

    @property
    def is_over(self) -> bool:
        """Whether nothing of it runs any more, and nothing will."""
        return self._phase == _OVER

    def start(self) -> None:
        """Begin with the stages that need no other.

        :raises Exception: what the observer raises; nothing has begun then.
        """
        self._started = time.perf_counter()
        self._tell("begun")
        self._has_begun = True
        with self._lock:
            for index in self.pipeline.roots:
                self._fates[index] = _RUNNING
        self._report("begun", _NOBODY)
        self._scatter(self.pipeline.roots)

    def take_up(self, past: Past) -> None:
        """Go on where an earlier process stopped; instead of `start`."""
        self._started = time.perf_counter()
        self._has_begun = True
        with self._lock:
            ready = self._go_on(past) if past.reason is None else self._go_back(past, past.reason)
        self._report("begun", _NOBODY)
        self._scatter(ready)

    def drive(self) -> bool:
        """Wait for the end and keep the time meanwhile; false if the rollback takes longer than it may."""
        while True:
            with self._lock:
                if self._phase == _OVER:
                    return True
                if time.monotonic() >= self._gives_up_at:
                    return False
                self._wakes_at = min(self._alarms[0][0] if self._alarms else math.inf, self._gives_up_at)
                left = self._wakes_at - time.monotonic()
            if left > 0:
                self._signal.acquire(timeout=min(left, threading.TIMEOUT_MAX))
            self._ring()

    def wait_for_ever(self) -> None:
        """Let no more time pass for giving up: somebody drives to the very end."""
        with self._lock:
            self._gives_up_at = math.inf

    def cancel(self) -> None:
        """Call it off: nothing more begins, and what was done is undone. Nothing if it has ended already."""
        self._fail(Cancelled("the transaction was called off", step="run"))

    def conclude(
        self, waited_seconds: float, tell: Callable[[TransactionResult, int], object] = lambda result, failures: None
    ) -> TransactionResult:
        """What became of it; `tell` gets that too, and how many calls of `progress` raised.

        :raises TransactionFailed: if it did not come to its end. It has the errors; the transaction has them no more.
        """
        with self._lock:
            result = self._result(waited_seconds)
            errors, self._errors = self._errors, []
            if self._phase == _OVER:
                self._results, self._inputs = [], None
        tell(result, self.progress_failures)
        if not errors and result.outcome == "done":
            return result
        group = [self._explained(*each) for each in errors]
        errors.clear()
        raise TransactionFailed.of(self._summary(result, group), group, result)

    # -- forwards ------------------------------------------------------------------------------------------------------

    def _work(self, index: int | None) -> None:
        """What a worker does: a stage or an undo, and then what has become possible by it."""
        while index is not None:
            index = self._undo(index) if self._fates[index] == _UNDOING else self._run(index)

    def _run(self, index: int) -> int | None:
        if self._phase != _FORWARDS:
            return self._dismissed(index)
        stage = self.pipeline.stages[index]
        failure: BaseException | None = None
        try:
            result = stage.run(self._job(index, stage))
        except BaseException as error:
            failure = bare(error)
        if failure is None:
            return self._succeeded(index, stage, result)
        try:
            return self._failed(index, failure)
        finally:
            del failure  # the stage's frame leads back to this one

    def _job(self, index: int, stage: Stage) -> Job:
        if self._is_observed:
            self._tell("stage started", stage)
            self._report("stage started", index)
        self._began[index] = time.perf_counter()
        token = self.token
        if stage.deadline_seconds is not None:
            deadline = time.monotonic() + stage.deadline_seconds
            token = CancelToken(deadline, parent=token)
            self._arm(deadline, _STAGE, index, 0)
        stages, results = self.pipeline.stages, self._results
        needed = {stages[need].name: results[need] for need in self.pipeline.needs[index]}
        return Job(self.id, stage.name, self._inputs, needed, token)

    def _succeeded(self, index: int, stage: Stage, result: Any) -> int | None:
        seconds = time.perf_counter() - self._began[index]
        failure: BaseException | None = None
        if stage.undo is not None or self._is_observed:
            try:
                self._capture(stage, result)
            except BaseException as error:
                failure = bare(error)
        with self._lock:
            self._fates[index] = _DONE
            self._seconds[index] = seconds
            self._done += 1
            if failure is not None:
                self._note(index, failure)
            if self._phase != _FORWARDS:
                ready = self._undoable(index)
            elif failure is not None or self._is_late(index, stage, seconds):
                ready = self._turn_back()
            else:
                ready = self._enable(index, result)
        del failure
        if self._is_observed:
            self._report("stage done", index)
        return self._spread(ready)

    def _is_late(self, index: int, stage: Stage, seconds: float) -> bool:
        """Whether its time was up when a stage ended, and the driver has not seen that yet. With the lock held."""
        if stage.deadline_seconds is not None and seconds >= stage.deadline_seconds:
            self._note(index, self._too_late(index))
            return True
        if time.monotonic() >= self.terms.deadline:
            self._note(_NOBODY, self._too_late(_NOBODY))
            return True
        return False

    def _capture(self, stage: Stage, result: Any) -> None:
        """Keep what the undo needs. If that fails the stage is undone with what it gave, which nobody else gets."""
        result = opened(result)
        if stage.undo is not None:
            picked = result if stage.capture is None else stage.capture(result)
            captured = self.shelf.keep(stage.name, picked)
            if self._is_observed:
                self._tell("captured", stage, captured=captured)
        if self._is_observed:
            self._tell("stage done", stage, result=result)

    def _enable(self, index: int, result: Any) -> list[int]:
        """Hand the result on; the stages that can begin. With the lock held."""
        pipeline, fates, waits_for, wanted_by = self.pipeline, self._fates, self._waits_for, self._wanted_by
        self._results[index] = result
        for need in pipeline.needs[index]:
            wanted_by[need] -= 1
            if not wanted_by[need] and not pipeline.stages[need].keep:
                self._results[need] = None
        ready = []
        for other in pipeline.needed_by[index]:
            waits_for[other] -= 1
            if not waits_for[other]:
                fates[other] = _RUNNING
                ready.append(other)
        self._left -= 1
        if not self._left:
            self._end()
        return ready

    def _failed(self, index: int, failure: BaseException) -> int | None:
        seconds = time.perf_counter() - self._began[index] if self._began[index] else None
        if self._is_observed:
            self._told("stage failed", index, failure)
        with self._lock:
            self._seconds[index] = seconds
            self._note_end(index, failure)
            ready = self._turn_back() if self._phase == _FORWARDS else self._settle([index])
        del failure
        self._report("stage failed", index)
        return self._spread(ready)

    def _note_end(self, index: int, failure: BaseException) -> None:
        """A stage did not come to its end: because it failed, or because it was told to. With the lock held."""
        was_told_to = isinstance(failure, Cancelled) and (self._phase != _FORWARDS or self.token.is_set())
        self._fates[index] = _CANCELLED if was_told_to else _FAILED
        self._words[index] = in_words(failure)
        if not was_told_to:
            self._note(index, failure)
        elif self._phase == _FORWARDS:  # it saw that its time was up before the driver did
            self._note(_NOBODY, self._too_late(_NOBODY))

    def _dismissed(self, index: int) -> int | None:
        """It was handed out, and has not begun: it will not."""
        with self._lock:
            self._fates[index] = _NOT_STARTED
            ready = self._settle([index])
        return self._spread(ready)

    def _go_on(self, past: Past) -> list[int]:
        """Hand the results of an earlier process on; the stages that can begin. With the lock held."""
        ready = list(self.pipeline.roots)
        for index, result in sorted(past.done.items()):
            self._done += 1
            ready += self._enable(index, result)
        for index in ready:
            self._fates[index] = _RUNNING
        for index in past.done:
            self._fates[index] = _DONE
        return [index for index in ready if self._fates[index] == _RUNNING]

    # -- backwards -----------------------------------------------------------------------------------------------------

    def _fail(self, failure: BaseException) -> None:
        """End it from outside of its stages."""
        with self._lock:
            if self._phase != _FORWARDS:
                return
            self._note(_NOBODY, failure)
            ready = self._turn_back()
        self._scatter(ready)

    def _turn_back(self) -> list[int]:
        """Begin the rollback; the stages to undo first. With the lock held."""
        self._phase = _BACKWARDS
        self._gives_up_at = time.monotonic() + self.terms.rollback_seconds
        self._wake()
        self._results = [None] * len(self._fates)
        live = [fate in (_RUNNING, _DONE) for fate in self._fates]
        self._reverse = ReverseGraph(self.pipeline.needs, self.pipeline.needed_by, live)
        free = [index for index, fate in enumerate(self._fates) if fate == _DONE and self._reverse.is_free(index)]
        if not self._reverse.left:
            self._end()
        return [each for index in free for each in self._undoable(index)]

    def _go_back(self, past: Past, reason: BaseException) -> list[int]:
        """Begin or go on with the rollback of what an earlier process did. With the lock held."""
        self._words.update({**past.failed, **past.undo_failed})
        self._done = len(past.done)
        for fate, indices in (
            (_DONE, past.done),
            (_FAILED, past.failed),
            (_UNDONE, past.undone),
            (_UNDO_FAILED, past.undo_failed),
        ):
            for index in indices:
                self._fates[index] = fate
        for index, attempts in past.attempts.items():
            self._attempts[index] = attempts
        self._note(_NOBODY, reason)
        return self._turn_back()

    def _undoable(self, index: int) -> list[int]:
        """One is done and free to be undone: itself, or where it has no undo, what is free by that. Lock held."""
        if self.pipeline.stages[index].undo is None:
            return self._settle([index])
        self._fates[index] = _UNDOING
        return [index]

    def _settle(self, settled: list[int]) -> list[int]:
        """These have come to their end; the stages to undo next. With the lock held."""
        assert self._reverse is not None
        ready = []
        while settled:
            for index in self._reverse.settle(settled.pop()):
                if self.pipeline.stages[index].undo is None:
                    settled.append(index)
                else:
                    self._fates[index] = _UNDOING
                    ready.append(index)
        if not self._reverse.left:
            self._end()
        return ready

    def _undo(self, index: int) -> int | None:
        stage = self.pipeline.stages[index]
        failure: BaseException | None = None
        attempt = self._attempts[index] + 1
        try:
            job = self._undo_job(index, stage)
            assert stage.undo is not None
            stage.undo(job)
        except BaseException as error:
            failure = bare(error)
        try:
            return self._undone(index, attempt, failure)
        finally:
            del failure  # the undo's frame leads back to this one

    def _undo_job(self, index: int, stage: Stage) -> UndoJob:
        """The next attempt to undo a stage has begun."""
        self._attempts[index] += 1
        attempt = self._attempts[index]
        self._began[index] = time.perf_counter()
        seconds = stage.undo_deadline_seconds or self.terms.undo_deadline_seconds
        deadline = time.monotonic() + seconds
        self._arm(deadline, _UNDO, index, attempt)
        if self._is_observed:
            self._tell("undo started", stage, attempt=attempt)
            self._report("undo started", index)
        return UndoJob(self.id, stage.name, self.shelf.load(stage.name), attempt, CancelToken(deadline))

    def _undone(self, index: int, attempt: int, failure: BaseException | None) -> int | None:
        """An attempt has ended: well, or to be made again, or for good."""
        stage = self.pipeline.stages[index]
        if self._is_observed:
            self._told("undo done" if failure is None else "undo failed", index, failure)
        with self._lock:
            if self._fates[index] != _UNDOING or self._attempts[index] != attempt:
                return None  # its deadline had passed, and others went on without it
            self._undo_seconds[index] = time.perf_counter() - self._began[index]
            if failure is not None and attempt <= stage.undo_retries:
                self._words[index] = in_words(failure)
                ready = self._again(index, attempt, stage)
            else:
                self._fates[index] = _UNDONE if failure is None else _UNDO_FAILED
                self._done -= failure is None
                if failure is not None:
                    self._note(index, failure, is_undo=True)
                ready = self._settle([index])
        self._report("undo done" if failure is None else "undo failed", index)
        del failure
        return self._spread(ready)

    def _again(self, index: int, attempt: int, stage: Stage) -> list[int]:
        """The next attempt: at once, or after the pause, which no worker waits for. With the lock held."""
        if not stage.undo_retry_seconds:
            return [index]
        self._arm(time.monotonic() + stage.undo_retry_seconds, _RETRY, index, attempt)
        return []

    # -- handing out ---------------------------------------------------------------------------------------------------

    def _spread(self, ready: list[int]) -> int | None:
        """Hand out all but one of what can begin; that one is for the worker that asks. None if there is none."""
        if self._phase == _BACKWARDS:
            self.token.set()
        if not ready:
            return None
        mine = ready.pop() if self._is_inline and not self._is_async(ready[-1]) else None
        if ready:
            self._scatter(ready)
        return mine

    def _scatter(self, ready: Iterable[int]) -> None:
        """Hand out all of it."""
        if self._phase == _BACKWARDS:
            self.token.set()  # not under the lock: somebody may listen
        for index in ready:
            try:
                self._hand_out(index)
            except BaseException as error:
                self._refused(index, bare(error))

    def _hand_out(self, index: int) -> None:
        if self._is_async(index):
            self._send(self._runners.coroutines, index)
        elif self._is_inline:
            self._runners.stages.submit(self._work, index)
        else:
            self._send(self._runners.stages, index)

    def _send(self, runner: Runner, index: int) -> None:
        """Have the stage's own function run elsewhere; what comes of it comes back through the threads here."""
        stage = self.pipeline.stages[index]
        attempt = 0
        if self._fates[index] == _UNDOING:
            assert stage.undo is not None
            job: Any = self._undo_job(index, stage)
            attempt = job.attempt
            future = runner.submit(_function(stage.undo), job)
        elif self._phase == _FORWARDS:
            job = self._job(index, stage)
            if runner is self._runners.coroutines:
                job = unpacked(job)
            future = runner.submit(_function(stage.run), job)
        else:
            self._runners.home.submit(self._work, index)
            return
        future.add_done_callback(partial(self._arrived, runner, index, attempt))

    def _refused(self, index: int, failure: BaseException) -> None:
        """No runner took it. An undo gets the threads here, and this very thread if there are none."""
        following: int | None = index
        if self._fates[index] != _UNDOING:
            following = self._failed(index, failure)
        elif self._is_async(index):
            following = self._undone(index, self._attempts[index], failure)
        del failure
        try:
            self._runners.home.submit(self._work, following)
        except RuntimeError:
            self._work(following)

    def _arrived(self, runner: Runner, index: int, attempt: int, future: Future[Any]) -> None:
        """In a thread of the runner, which has other things to do than to copy and to write."""
        try:
            self._runners.home.submit(self._landed, runner, index, attempt, future)
        except RuntimeError:
            self._landed(runner, index, attempt, future)

    def _landed(self, runner: Runner, index: int, attempt: int, future: Future[Any]) -> None:
        result, failure, has_run = runner.receive(future)
        if failure is None and self._is_final(index):
            try:
                result = opened(result)
            except Exception as error:
                failure = bare(error)
        if attempt:
            following = self._undone(index, attempt, failure) if has_run else self._recalled(index, attempt)
        elif failure is not None:
            following = self._failed(index, failure)
        else:
            following = self._succeeded(index, self.pipeline.stages[index], result)
        del failure, future
        self._work(following)

    def _recalled(self, index: int, attempt: int) -> int | None:
        """Nobody can say whether an undo has run, for its worker is gone: once more, here, with the same key."""
        with self._lock:
            is_waited_for = self._fates[index] == _UNDOING and self._attempts[index] == attempt
        return self._undo(index) if is_waited_for else None

    def _is_final(self, index: int) -> bool:
        """Whether the caller gets the result of this stage."""
        return self.pipeline.stages[index].keep or not self.pipeline.needed_by[index]

    def _is_async(self, index: int) -> bool:
        pipeline = self.pipeline
        return (pipeline.undoes_async if self._fates[index] == _UNDOING else pipeline.runs_async)[index]

    # -- time ----------------------------------------------------------------------------------------------------------

    def _arm(self, when: float, kind: int, index: int, attempt: int) -> None:
        with self._lock:
            heapq.heappush(self._alarms, (when, kind, index, attempt))
            if when < self._wakes_at:
                self._wake()

    def _wake(self) -> None:
        """Have the driver look. With the lock held."""
        if self._signal.locked():
            self._signal.release()

    def _ring(self) -> None:
        """See to what is due."""
        now = time.monotonic()
        ready: list[int] = []
        with self._lock:
            while self._alarms and self._alarms[0][0] <= now and self._phase != _OVER:
                ready += self._due(*heapq.heappop(self._alarms)[1:])
        self._scatter(ready)

    def _due(self, kind: int, index: int, attempt: int) -> list[int]:
        """What is to be handed out because a time has come. With the lock held."""
        if kind == _RETRY:
            return [index]
        if kind == _UNDO:
            return self._undo_expired(index, attempt)
        if self._phase != _FORWARDS or (kind == _STAGE and self._fates[index] != _RUNNING):
            return []
        self._note(index, self._too_late(index))
        return self._turn_back()

    def _undo_expired(self, index: int, attempt: int) -> list[int]:
        """The undo runs on, and may still do its work; nobody waits for it."""
        if self._fates[index] != _UNDOING or self._attempts[index] != attempt:
            return []
        stage = self.pipeline.stages[index]
        seconds = stage.undo_deadline_seconds or self.terms.undo_deadline_seconds
        self._fates[index] = _UNDO_FAILED
        self._undo_seconds[index] = time.perf_counter() - self._began[index]
        message = f"the undo of stage {stage.name!r} did not end within {seconds:g} s"
        self._note(index, DeadlineExceeded(message, deadline_seconds=seconds), is_undo=True)
        return self._settle([index])

    def _too_late(self, index: int) -> DeadlineExceeded:
        if index == _NOBODY:
            seconds: float | None = self.terms.deadline_seconds
            message = f"pipeline {self.pipeline.name!r} did not end within {seconds:g} s"
        else:
            stage = self.pipeline.stages[index]
            seconds = stage.deadline_seconds
            message = f"stage {stage.name!r} did not end within {seconds:g} s"
        return DeadlineExceeded(message, deadline_seconds=seconds)

    # -- the end -------------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        """With the lock held."""
        self._phase = _OVER
        self._ended = time.perf_counter()
        self._wake()

    def finish(self) -> None:
        """Tell of the end, and forget the captured state. Call it once, when it is over.

        :raises Exception: what the observer or the store raises; the rest is done.
        """
        self._runners.stages.leave()
        if not self._has_begun:
            return
        try:
            self._tell("ended", outcome=self._outcome())
        except BaseException:
            if not self.terms.is_durable:
                self.shelf.clear()
            raise
        self.shelf.clear()
        self._report("ended", _NOBODY)

    def _note(self, index: int, failure: BaseException, *, is_undo: bool = False) -> None:
        self._errors.append((index, is_undo, failure))
        if index != _NOBODY:
            self._words[index] = in_words(failure)

    def _outcome(self) -> Outcome:
        if self._reverse is None:
            return "done"
        clean = all(fate not in (_RUNNING, _UNDOING, _UNDO_FAILED) for fate in self._fates)
        return "rolled back" if clean else "incomplete"

    def _result(self, waited_seconds: float) -> TransactionResult:
        pipeline = self.pipeline
        kept = (
            (stage.name, self._results[index])
            for index, stage in enumerate(pipeline.stages)
            if self._reverse is None and (stage.keep or not pipeline.needed_by[index])
        )
        return TransactionResult(
            transaction=self.id,
            pipeline=pipeline.name,
            outcome=self._outcome(),
            stages={stage.name: self._stage_report(index, stage.name) for index, stage in enumerate(pipeline.stages)},
            results=dict(kept),
            seconds=(self._ended or time.perf_counter()) - self._started,
            waited_seconds=waited_seconds,
            spilled_bytes=self.shelf.spilled_bytes,
        )

    def _stage_report(self, index: int, name: str) -> StageReport:
        return StageReport(
            name=name,
            fate=_FATES[self._fates[index]],
            seconds=self._seconds[index],
            undo_seconds=self._undo_seconds[index],
            undo_attempts=self._attempts[index],
            error=self._words.get(index),
        )

    def _explained(self, index: int, is_undo: bool, error: BaseException) -> Exception:
        """What was raised, as the cause of an error that says which stage it was."""
        if index == _NOBODY and isinstance(error, Exception):
            return error
        stage = self.pipeline.stages[index]
        explained: Exception
        if is_undo:
            explained = UndoFailed(
                _failure(f"the undo of stage {stage.name!r}", error),
                stage=stage.name,
                attempts=self._attempts[index],
                advice="What the stage did is still there: see to it by hand",
            )
        else:
            explained = StageFailed(_failure(f"stage {stage.name!r}", error), stage=stage.name)
        explained.__cause__ = error
        return explained

    def _summary(self, result: TransactionResult, errors: list[Exception]) -> str:
        undone, stuck = len(result.with_fate("undone")), result.with_fate("undo failed", "undoing", "running")
        text = f"{errors[0]}; {undone} undone" if errors else f"{undone} undone"
        return f"pipeline {self.pipeline.name!r}: {text}" + (f", not {', '.join(stuck)}" if stuck else "")

    # -- telling -------------------------------------------------------------------------------------------------------

    def _tell(self, kind: TransitionKind, stage: Stage | None = None, **facts: Any) -> None:
        if self.terms.observer is not None:
            name = None if stage is None else stage.name
            self.terms.observer(
                Transition(kind=kind, transaction=self.id, pipeline=self.pipeline.name, stage=name, **facts)
            )

    def _told(self, kind: TransitionKind, index: int, failure: BaseException | None) -> None:
        """Tell of an end that cannot be refused: what the observer raises is one more failure."""
        try:
            self._tell(
                kind,
                self.pipeline.stages[index],
                attempt=self._attempts[index],
                error=None if failure is None else in_words(failure),
            )
        except BaseException as error:
            with self._lock:
                self._errors.append((index, kind.startswith("undo"), bare(error)))

    def _report(self, kind: TransitionKind, index: int) -> None:
        progress = self.terms.progress
        if progress is None:
            return
        name = None if index == _NOBODY else self.pipeline.stages[index].name
        try:
            progress(
                Progress(
                    kind=kind,
                    transaction=self.id,
                    pipeline=self.pipeline.name,
                    stage=name,
                    finished=self._done,
                    total=len(self._fates),
                )
            )
        except Exception:
            with self._lock:
                self.progress_failures += 1


def in_words(error: BaseException) -> str:
    """Type and text."""
    try:
        text = str(error)
    except Exception:
        text = "it cannot be put into words"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _failure(who: str, error: BaseException) -> str:
    """What went wrong with whom; a deadline that nobody raised, but that was noted here, says both by itself."""
    if isinstance(error, DeadlineExceeded) and error.__traceback__ is None:
        return str(error)
    return f"{who} failed: {in_words(error)}"


def bare(error: BaseException) -> BaseException:
    """The error without the frame that caught it: that frame leads to the transaction, and it to the error."""
    traceback = error.__traceback__
    return error if traceback is None else error.with_traceback(traceback.tb_next)


def _function(stands_for: Callable[..., Any]) -> Callable[..., Any]:
    """What is to be called elsewhere: the function itself, where another stands for it."""
    return getattr(stands_for, "function", stands_for)
