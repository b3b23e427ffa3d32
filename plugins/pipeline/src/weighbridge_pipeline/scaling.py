"""What the capability ``pipeline`` gives to others: pipelines, their transactions, and how many there may be."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any, Final, Protocol

import attrs
from weighbridge_hookspecs import (
    Backpressure,
    Cancelled,
    ConfigurationError,
    ContextClosed,
    Gate,
    PluginContext,
    Saturated,
    ScalingLimits,
    ScalingMetrics,
    Store,
    WeighbridgeError,
)
from weighbridge_hookspecs.services import Priority

from .build import Builder, build
from .cancel import CancelToken
from .capture import FOLDER, Shelf, sweep
from .contribution import Contribution, OnUnload
from .durable import VALUE_BYTES, VALUES, JournalOf, Recorder, TransactionLog
from .elsewhere import Elsewhere
from .folder import PrivateFolder
from .graph import Pipeline
from .history import History, OnOpen
from .recovery import OpenTransaction, Recovery, case_of, open_transaction, settle
from .result import Progress, TransactionFailed, TransactionResult, Transition
from .runner import Given, Loop, Runner, Threads, join
from .settings import PipelineSettings
from .stage import Stage, is_number, senseless
from .statistics import PipelineStatistics, Tally
from .transaction import Runners, Terms, Transaction, bare, in_words

_log: Final = logging.getLogger("weighbridge.plugins.pipeline")

Observer = Callable[[Transition], object]
Watcher = Callable[[Progress], object]


class Surroundings(Protocol):
    """As much of a ``PluginContext`` as is needed here."""

    @property
    def store(self) -> Store:
        """A durable store."""

    def gate(self, limit: int, *, max_waiting: int | None = None, reserve: float = 0.0) -> Gate:
        """A limit on how many may work at once."""


class PipelineScaling:
    """Builds pipelines and runs them. Thread-safe; a ``ScalableSubsystem`` of the contract.

    :param surroundings: lends the gate and the store: the plugin's context.
    """

    name: Final = "pipeline"

    def __init__(self, settings: PipelineSettings, surroundings: Surroundings) -> None:
        self.settings: Final = settings
        self._bounds = settings  # as they were changed since
        self._surroundings = surroundings
        self._max_depth = settings.max_depth
        self._limits = ScalingLimits(
            max_concurrent_operations=settings.max_transactions,
            max_waiting=settings.max_waiting,
            wait_seconds=settings.wait_seconds,
        )
        self._gate = surroundings.gate(settings.max_transactions, max_waiting=settings.max_waiting)
        self._threads = Threads(settings.workers)
        self._loop = Loop()
        self._folder = PrivateFolder()
        self._tally = Tally(settings.max_transactions)
        self._journal = JournalOf(surroundings, settings.journal_bytes)
        self._recovering = threading.Lock()
        self._lock = threading.RLock()
        self._live: dict[Transaction, None] = {}
        self._drivers: set[threading.Thread] = set()
        self._contributions: dict[str, Contribution] = {}
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<PipelineScaling, {self._tally.running} running, {self._tally.waiting} waiting>"

    # -- building ------------------------------------------------------------------------------------------------------

    @property
    def max_depth(self) -> int:
        """How many stages the longest path of a pipeline may have that is built from now on."""
        return self._max_depth

    @max_depth.setter
    def max_depth(self, stages: int) -> None:
        self._max_depth = attrs.evolve(self.settings, max_depth=stages).max_depth

    def build(self, name: str, stages: Iterable[Stage]) -> Pipeline:
        """A pipeline of `stages`, in whatever order they come; it serves any number of transactions.

        :raises InvalidPipeline: if it cannot be run; see :func:`~weighbridge_pipeline.build.build`.
        """
        return build(name, stages, max_depth=self._max_depth)

    def pipeline(self, name: str) -> Builder:
        """A builder whose decorator makes functions stages."""
        return Builder(name, builder=self.build)

    def contribute(self, context: PluginContext, *stages: Stage, on_unload: OnUnload = "wait") -> Contribution:
        """Lend stages of a plugin to others. They are found with `stage`, and leave with the plugin of `context`.

        :param on_unload: what becomes of transactions with these stages if the plugin is to go. They are waited for,
            for at most the setting ``drain_seconds``, and then called off; or they are called off at once.
        :raises ConfigurationError: if the plugin has contributed before, or two stages have one name.
        """
        if on_unload not in ("wait", "cancel"):
            raise senseless("on_unload", on_unload, 'Give "wait" or "cancel"')
        if len({stage.name for stage in stages}) < len(stages):
            raise ConfigurationError("two contributed stages have one name", plugin=context.name, step="configure")
        with self._lock:
            old = self._contributions.get(context.name)
            if old is not None and old.is_there:
                raise ConfigurationError(
                    "it has contributed stages before",
                    plugin=context.name,
                    step="configure",
                    advice="Release the contribution first, or contribute all of them together",
                )
            self._contributions[context.name] = contribution = Contribution(context, stages, on_unload)
        return contribution

    def stage(self, plugin: str, name: str) -> Stage:
        """A stage that a plugin contributed, to build with.

        :raises KeyError: if it did not; the text says what it contributed.
        """
        contribution = self._contributions.get(plugin)
        stages = {} if contribution is None else contribution.stages
        if name not in stages:
            raise KeyError(f"{plugin!r} has not contributed {name!r}, but {', '.join(stages) or 'nothing'}")
        return stages[name]

    # -- running -------------------------------------------------------------------------------------------------------

    def run(
        self,
        pipeline: Pipeline,
        inputs: Any = None,
        *,
        deadline_seconds: float | None = None,
        priority: Priority = "normal",
        progress: Watcher | None = None,
        cancel: CancelToken | None = None,
        executor: Executor | None = None,
        observer: Observer | None = None,
        durable: bool = False,
    ) -> TransactionResult:
        """Run a pipeline as a transaction: all of its stages, or, as far as they can be undone, none.

        :param inputs: what every stage finds in ``job.inputs``.
        :param deadline_seconds: how long it may wait for a place and run; what the settings say if it is None.
        :param progress: called with a :class:`Progress` at each step, in the thread that took it.
        :param cancel: a token that calls it off when it is set.
        :param executor: where its stages and undos run; threads of the plugin if it is None. It stays the caller's.
        :param observer: called with a :class:`Transition` before each step takes effect; what it raises ends the
            transaction.
        :param durable: have each step in a journal before it takes effect, so that `recover` finds it after a crash.
            Inputs, results and captured state have to be such as can be pickled.
        :raises Saturated: if it got no place.
        :raises ServiceUnavailable: if it is to be durable and there is no store.
        :raises Cancelled: if it was called off before it had begun.
        :raises StageWithdrawn: if a plugin that contributed one of the stages has gone.
        :raises ContextClosed: if the plugin is leaving.
        :raises TransactionFailed: if it did not come to its end. It was undone by then, or has used up the
            ``rollback_seconds`` of the settings; ``error.result`` says what became of every stage.
        """
        seconds = self.settings.deadline_seconds if deadline_seconds is None else deadline_seconds
        if not (is_number(seconds) and seconds > 0):
            raise senseless("deadline_seconds", seconds, "Give a number of seconds above 0")
        if not hasattr(pipeline, "needed_by"):  # one that was built before a reload is of another class, and will do
            raise senseless("the pipeline", pipeline, "Give what build gives; a builder has build()")
        arrived = time.monotonic()
        place = self._enter(priority, seconds)
        waited = time.monotonic() - arrived
        transaction: Transaction | None = None
        try:
            if cancel is not None and cancel.is_set():
                raise Cancelled("the transaction was called off before it had begun", step="run")
            terms = self._terms(arrived + seconds, seconds, observer, progress)
            if durable:
                terms = _recorded(terms, Recorder(self._journal.open(), pipeline, inputs))
            transaction = self._transaction(uuid.uuid4().hex, pipeline, inputs, executor, terms)
            return self._see_through(transaction, cancel, waited, transaction.start)
        finally:
            self._leave(transaction, place)

    def submit(self, pipeline: Pipeline, inputs: Any = None, **options: Any) -> Handle:
        """Run it in a thread of its own; the arguments are those of `run`, and `result` gives and raises what it does.

        :raises RuntimeError: where the system gives no thread.
        """
        handle = Handle(options.pop("cancel", None))
        thread = threading.Thread(
            target=handle._serve,
            args=(self.run, self._drivers, pipeline, inputs, options),
            name="weighbridge-pipeline-driver",
            daemon=True,
        )
        self._drivers.add(thread)
        try:
            thread.start()
        except BaseException:
            self._drivers.discard(thread)
            raise
        return handle

    # -- after a crash -------------------------------------------------------------------------------------------------

    def open_transactions(self) -> tuple[OpenTransaction, ...]:
        """Durable transactions that an earlier process left open, and how far each had come.

        :raises ServiceUnavailable: if there is no store.
        :raises LeaseError: if another process has the journal.
        :raises StorageDamaged: if the journal cannot be read to its end.
        """
        return tuple(map(open_transaction, list(self._journal.open().found.values())))

    def recover(
        self,
        pipelines: Iterable[Pipeline],
        *,
        on_open: OnOpen = "rollback",
        executor: Executor | None = None,
        deadline_seconds: float | None = None,
    ) -> Recovery:
        """Bring the durable transactions to an end that an earlier process left open, one after the other.

        No stage is begun whose end is in the journal, and no undo either. One that was under way is begun again, with
        the same key, ``job.key``: by that it knows what it has done already, so that the effect is there once. A
        stage with an undo that was under way is run again first, in this process and for a rollback as well: then there
        is the state that its undo needs.

        :param pipelines: built as they were; they are found by their names.
        :param on_open: whether those that were going forwards are rolled back, or go on. One of which every stage was
            done has come to its end, and one that was being rolled back is rolled back.
        :param executor: as for `run`.
        :param deadline_seconds: what each may take.
        :returns: what became of them. Those that are refused are still there for the next time: of a pipeline that was
            not given or has another graph, or with a value that cannot be read.
        :raises ConfigurationError: if `on_open` is neither, or two pipelines have one name.
        :raises ServiceUnavailable: if there is no store.
        :raises LeaseError: if another process has the journal.
        :raises StorageDamaged: if the journal cannot be read to its end.
        """
        if on_open not in ("rollback", "resume"):
            raise senseless("on_open", on_open, 'Give "rollback" or "resume"')
        given = list(pipelines)
        named = {pipeline.name: pipeline for pipeline in given}
        if len(named) < len(given):
            raise senseless("pipelines", [pipeline.name for pipeline in given], "Give one of each name")
        seconds = self.settings.deadline_seconds if deadline_seconds is None else deadline_seconds
        results: list[TransactionResult] = []
        refused: list[WeighbridgeError] = []
        with self._recovering:
            log = self._journal.open()
            under_way = {transaction.id for transaction in list(self._live)}
            for history in [one for name, one in log.found.items() if name not in under_way]:
                try:
                    results.append(self._recover(log, history, named, on_open, executor, seconds))
                except WeighbridgeError as error:
                    refused.append(error.with_traceback(None))
        return Recovery(results=tuple(results), refused=tuple(refused))

    def _recover(
        self,
        log: TransactionLog,
        history: History,
        pipelines: Mapping[str, Pipeline],
        on_open: OnOpen,
        executor: Executor | None,
        seconds: float,
    ) -> TransactionResult:
        shelf = self._shelf(history.transaction, is_durable=True)
        case = case_of(history, pipelines, on_open, shelf, self._open_store)
        recorder = case.recorder(log)
        arrived = time.monotonic()
        place = self._enter("normal", seconds)
        waited = time.monotonic() - arrived
        transaction: Transaction | None = None
        try:
            settle(case, recorder, self._home_of(case.pipeline), seconds)
            terms = _recorded(self._terms(time.monotonic() + seconds, seconds, None, None), recorder)
            transaction = self._transaction(history.transaction, case.pipeline, case.inputs, executor, terms)
            transaction.shelf.adopt_all(shelf)
            return self._see_through(transaction, None, waited, partial(transaction.take_up, case.past()))
        except TransactionFailed as error:
            if error.result is None:
                raise
            return error.result
        finally:
            self._leave(transaction, place)

    def _home_of(self, pipeline: Pipeline) -> Callable[[int], Runner]:
        return lambda index: self._loop if pipeline.runs_async[index] else self._threads

    # -- scaling -------------------------------------------------------------------------------------------------------

    @property
    def limits(self) -> ScalingLimits:
        """The bounds in force."""
        return self._limits

    def reconfigure(self, limits: ScalingLimits) -> None:
        """Take new bounds; what runs already goes on.

        :raises ConfigurationError: if one of them makes no sense; then all stays as it was.
        """
        given: dict[str, Any] = {
            "max_transactions": limits.max_concurrent_operations,
            "max_waiting": limits.max_waiting,
            "wait_seconds": limits.wait_seconds,
        }
        changed = attrs.evolve(self._bounds, **{name: bound for name, bound in given.items() if bound is not None})
        with self._lock:
            self._gate.resize(changed.max_transactions, max_waiting=changed.max_waiting)
            self._tally.resize(changed.max_transactions)
            self._bounds = changed
            self._limits = ScalingLimits(
                max_concurrent_operations=changed.max_transactions,
                max_waiting=changed.max_waiting,
                wait_seconds=changed.wait_seconds,
            )

    def metrics(self) -> ScalingMetrics:
        """What it is doing now."""
        figures = self.statistics()
        return ScalingMetrics(
            running=figures.running,
            waiting=figures.waiting,
            completed=figures.done + figures.failed,
            rejected=figures.rejected,
            utilization=self._tally.utilization(),
        )

    def backpressure(self) -> Backpressure:
        """Whether it takes more transactions now."""
        waiting, limits = self._tally.waiting, self._limits
        is_full = limits.max_waiting is not None and self._tally.running >= limits.max_concurrent_operations
        is_full = is_full and waiting >= (limits.max_waiting or 0)
        return Backpressure(
            accepting=not self._is_closed and not is_full,
            retry_after_seconds=self._retry_after() if is_full else None,
        )

    def statistics(self) -> PipelineStatistics:
        """What the transactions came to so far."""
        return self._tally.statistics(self.captured_bytes)

    # -- for the plugin ------------------------------------------------------------------------------------------------

    @property
    def captured_bytes(self) -> int:
        """Captured state that is in memory now."""
        return sum(transaction.shelf.held_bytes for transaction in list(self._live))

    def is_open(self, transaction: str) -> bool:
        """Whether a durable transaction has begun and not ended, here or in an earlier process."""
        return self._journal.open().is_open(transaction)

    def sweep(self, *, keep: Callable[[str], bool] = lambda transaction: False) -> int:
        """Forget what a crash left in the store; how many states. Call it before the first transaction.

        :param keep: whether the states of a transaction are still needed, by its identifier.
        :raises ServiceUnavailable: if there is no store.
        """
        return sweep(self._surroundings.store, keep=keep, folders=(FOLDER, VALUES))

    def release_memory(self, nbytes: int) -> int:
        """Move captured state to the store until `nbytes` bytes are free; the bytes that are.

        :raises LeaseError: if the store does not take it.
        """
        freed = 0
        for transaction in list(self._live):
            if freed >= nbytes:
                break
            freed += transaction.shelf.release(nbytes - freed)
        return freed

    def plugin_leaves(self, plugin: str) -> None:
        """A plugin is about to go: let nothing begin with its stages, and see off what runs with them."""
        contribution = self._contributions.get(plugin)
        if contribution is not None and not contribution.shut(self.settings.drain_seconds):
            _log.warning("transactions with stages of %s still run", plugin)

    def plugin_stays(self, plugin: str) -> None:
        """A plugin that was about to go did not."""
        contribution = self._contributions.get(plugin)
        if contribution is not None:
            contribution.reopen()

    def plugin_left(self, plugin: str) -> None:
        """A plugin has gone."""
        with self._lock:
            contribution = self._contributions.pop(plugin, None)
        if contribution is not None:
            contribution.release()

    def close(self) -> None:
        """Call off what runs, wait until it is undone, and end every thread. Closing twice does nothing.

        What has not ended after the setting ``rollback_seconds`` is left behind, with a warning.
        """
        self._is_closed = True
        for transaction in list(self._live):
            transaction.cancel()
        self._gate.release()
        seconds = self.settings.rollback_seconds
        are_over = join(list(self._drivers), seconds)
        self._loop.close()
        if not self._threads.close(seconds if are_over else 0):
            _log.warning("a stage or an undo still runs, and does not see that it should end")
        self._folder.close()
        self._journal.close()
        for plugin in list(self._contributions):
            self.plugin_left(plugin)

    # -- one transaction -----------------------------------------------------------------------------------------------

    def _enter(self, priority: Priority, seconds: float) -> AbstractContextManager[None]:
        """Wait for a place."""
        if self._is_closed:
            raise ContextClosed("the pipelines are being unloaded", step="run")
        wait_seconds = min(seconds, self._limits.wait_seconds or seconds)
        place = self._gate.enter(priority=priority, timeout_seconds=wait_seconds)
        self._tally.add(waiting=1)
        try:
            place.__enter__()
        except BaseException as error:
            self._tally.add(waiting=-1, rejected=isinstance(error, Saturated))
            raise
        self._tally.add(waiting=-1, running=1)
        return place

    def _retry_after(self) -> float | None:
        """Seconds until a place would come to one who joins the queue now; None if nothing is known."""
        seconds = self._tally.transaction_seconds
        if seconds is None:
            return None
        return seconds * (self._tally.waiting + 1) / self._limits.max_concurrent_operations

    def _terms(self, deadline: float, seconds: float, observer: Observer | None, progress: Watcher | None) -> Terms:
        return Terms(
            deadline=deadline,
            deadline_seconds=seconds,
            undo_deadline_seconds=self.settings.undo_deadline_seconds,
            rollback_seconds=self.settings.rollback_seconds,
            observer=observer,
            progress=progress,
        )

    def _transaction(
        self, identifier: str, pipeline: Pipeline, inputs: Any, executor: Executor | None, terms: Terms
    ) -> Transaction:
        stages = self._runner(executor, pipeline, inputs, identifier)
        transaction = Transaction(
            identifier,
            pipeline,
            inputs,
            runners=Runners(stages=stages, home=self._threads, coroutines=self._loop),
            shelf=self._shelf(identifier, is_durable=terms.is_durable),
            terms=terms,
        )
        if isinstance(stages, Elsewhere):
            transaction.token.on_set(stages.call_off)
        self._admit(transaction)
        return transaction

    def _runner(self, executor: Executor | None, pipeline: Pipeline, inputs: Any, transaction: str) -> Runner:
        if executor is None:
            return self._threads
        if isinstance(executor, ThreadPoolExecutor):
            return Given(executor)
        return Elsewhere(executor, pipeline, inputs, folder=self._folder, transaction=transaction)

    def _admit(self, transaction: Transaction) -> None:
        """Note it, with those whose stages it has."""
        entered: list[Contribution] = []
        try:
            for contribution in transaction.pipeline.contributions:
                contribution.enter(transaction)
                entered.append(contribution)
            with self._lock:
                if self._is_closed:
                    raise ContextClosed("the pipelines are being unloaded", step="run")
                self._live[transaction] = None
        except BaseException:
            for contribution in entered:
                contribution.leave(transaction)
            raise

    def _shelf(self, transaction: str, *, is_durable: bool) -> Shelf:
        """What is captured of a durable one goes to the store as soon as it is too large for the journal."""
        limit_bytes = self.settings.capture_bytes
        return Shelf(transaction, self._open_store, min(limit_bytes, VALUE_BYTES) if is_durable else limit_bytes)

    def _see_through(
        self, transaction: Transaction, cancel: CancelToken | None, waited: float, begin: Callable[[], object]
    ) -> TransactionResult:
        if cancel is not None:
            cancel.on_set(transaction.cancel)
        try:
            begin()
            self._tally.add(begun=1)
            try:
                transaction.drive()
            except BaseException:  # Ctrl-C: nothing half done is left behind
                transaction.cancel()
                transaction.drive()
                with suppress(TransactionFailed):
                    transaction.conclude(waited, self._tally.ended)
                raise
        finally:
            if cancel is not None:
                cancel.forget(transaction.cancel)
        return transaction.conclude(waited, self._tally.ended)

    def _leave(self, transaction: Transaction | None, place: AbstractContextManager[None]) -> None:
        """Give the place back, once nothing runs any more; a thread waits for that if the caller does not."""
        if transaction is None or transaction.is_over or not transaction.has_begun:
            self._part(transaction, place)
            return
        transaction.wait_for_ever()
        thread = threading.Thread(
            target=self._outlast, args=(transaction, place), name="weighbridge-pipeline-driver", daemon=True
        )
        self._drivers.add(thread)
        thread.start()

    def _outlast(self, transaction: Transaction, place: AbstractContextManager[None]) -> None:
        try:
            transaction.drive()
            _log.warning("transaction %s ended after its caller had stopped waiting", transaction.id)
        finally:
            self._part(transaction, place)
            self._drivers.discard(threading.current_thread())

    def _part(self, transaction: Transaction | None, place: AbstractContextManager[None]) -> None:
        failed = 0
        if transaction is not None:
            try:
                transaction.finish()
            except Exception as error:
                failed = 1
                _log.error("the end of transaction %s: %s", transaction.id, in_words(error))
            self._live.pop(transaction, None)
            for contribution in transaction.pipeline.contributions:
                contribution.leave(transaction)
        self._tally.add(running=-1, clean_up_failures=failed)
        place.__exit__(None, None, None)

    def _open_store(self) -> Store:
        return self._surroundings.store


def _recorded(terms: Terms, recorder: Recorder) -> Terms:
    """The same terms, and each step is written once the caller's own observer has not objected to it."""
    own = terms.observer

    def observe(transition: Transition) -> None:
        if own is not None:
            own(transition)
        recorder(transition)

    return attrs.evolve(terms, observer=recorder if own is None else observe, is_durable=True)


class Handle:
    """A transaction that somebody submitted."""

    def __init__(self, cancel: CancelToken | None) -> None:
        self._token: Final = CancelToken() if cancel is None else cancel
        self._ended = threading.Event()
        self._result: TransactionResult | None = None
        self._error: BaseException | None = None

    def cancel(self) -> None:
        """Call it off. One that waits ends when its turn comes; one that has ended stays as it is."""
        self._token.set()

    def is_done(self) -> bool:
        """Whether `result` has an answer."""
        return self._ended.is_set()

    def result(self, timeout: float | None = None) -> TransactionResult:
        """Wait for the end; what became of it.

        :raises TimeoutError: if it has not ended after `timeout` seconds; it goes on.
        :raises Exception: what `PipelineScaling.run` raises.
        """
        if not self._ended.wait(None if timeout is None else min(max(timeout, 0), threading.TIMEOUT_MAX)):
            raise TimeoutError(f"the transaction did not end within {timeout:g} s")
        if self._error is not None:
            try:
                raise self._error
            finally:
                del self  # the error has this frame in its traceback, and the handle has the error: a ring
        assert self._result is not None
        return self._result

    def _serve(
        self,
        run: Callable[..., TransactionResult],
        drivers: set[threading.Thread],
        pipeline: Pipeline,
        inputs: Any,
        options: dict[str, Any],
    ) -> None:
        try:
            self._result = run(pipeline, inputs, cancel=self._token, **options)
        except BaseException as error:
            self._error = bare(error)
        finally:
            drivers.discard(threading.current_thread())
            self._ended.set()
            del self  # frames of the error lead back to this one, and the handle has the error: a ring
