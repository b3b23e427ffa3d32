"""Running stages in other processes: of this machine, or of a cluster.

The driver keeps the schedule, the captured state and the results; a worker gets one call at a time, and what it needs
for that. A worker that dies takes nothing along but the call it was at: the results of other stages are with the
driver, or in its folder.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import Any, Final, Protocol

from weighbridge_hookspecs import InvalidPipeline, StageWithdrawn

from .cancel import CancelToken
from .folder import PrivateFolder
from .graph import Pipeline
from .parcel import FLAG, LIMIT_BYTES, Answer, Claim, Order, Packed, lodge, pickler, work
from .pool import look_again, see_off, workers
from .runner import Landing
from .stage import Job, UndoJob


class Carrier(Protocol):
    """How large values reach the workers of an executor.

    :ivar by_value: whether code that workers cannot import goes along.
    """

    by_value: bool

    @property
    def folder(self) -> str | None:
        """One that driver and workers share."""

    def check(self) -> None:
        """Nothing, where there is somebody who can run an undo.

        :raises RuntimeError: if not.
        """

    def send(self, packed: Packed) -> Any:
        """What is to be given to the executor for this value."""

    def submit(self, order: Order, contents: list[Any]) -> Future[Any]:
        """Have a worker carry it out."""

    def answer(self, future: Future[Any]) -> Answer:
        """What came of it, once it has ended.

        :raises Exception: what went wrong outside of the stage.
        """

    def call_off(self) -> None:
        """Tell the workers of this transaction, where that is possible."""

    def close(self) -> None:
        """The transaction is over."""


class Machine:
    """Workers of this machine: large values lie in files, in a room of the transaction's own."""

    by_value = False

    def __init__(self, executor: Executor, folder: PrivateFolder, transaction: str) -> None:
        self._executor: Final = executor
        self._rooms: Final = folder
        self._transaction: Final = transaction
        self._lock = threading.Lock()
        self._room: str | None = None

    @property
    def folder(self) -> str:
        """The room."""
        room = self._room
        if room is None:
            room = self._room = self._rooms.room(self._transaction)
        return room

    def check(self) -> None:
        """Nothing: a pool that is broken says so by itself."""

    def send(self, packed: Packed) -> bytes | Claim:
        """The value, or a claim to the file that it is moved to."""
        with self._lock:
            if not isinstance(packed.content, Claim) and len(packed.content) > LIMIT_BYTES:
                packed.content = lodge(self.folder, packed.content)
            return packed.content

    def submit(self, order: Order, contents: list[Any]) -> Future[Any]:
        """Have the pool carry it out, and see to it that it knows all of its workers."""
        begun = workers(self._executor)
        future = self._executor.submit(work, order, *contents)
        if workers(self._executor) > begun:
            look_again(self._executor)
        return future

    def answer(self, future: Future[Any]) -> Answer:
        """What the pool gave, or raises; a broken one has no workers any more then."""
        error = None if future.cancelled() else future.exception()
        if error is not None:
            see_off(self._executor, error)
        answer: Answer = future.result()
        return answer

    def call_off(self) -> None:
        """Put the flag into the room, if there may be workers that look at it."""
        if self._room is not None:
            with suppress(OSError), open(os.path.join(self._room, FLAG), "wb"):
                pass

    def close(self) -> None:
        """Remove the room."""
        room, self._room = self._room, None
        if room is not None:
            shutil.rmtree(room, ignore_errors=True)


class Cluster:
    """Workers of dask, wherever they are: large values are scattered, and dask has them brought where they are needed.

    The driver keeps its copy, for what was scattered is lost with the worker that has it:
    https://distributed.dask.org/en/stable/locality.html#user-control
    """

    by_value = True
    folder = None

    def __init__(self, executor: Any) -> None:
        self._executor: Final = executor
        self._client: Final = executor._client
        self._lock = threading.Lock()

    def check(self) -> None:
        """Nothing, where there are workers. Dask keeps a call until one comes, and an undo may wait in vain.

        :raises RuntimeError: if there is none, or the scheduler has gone.
        """
        if self._client.status != "running" or not self._client.nthreads():
            raise RuntimeError("the cluster has no workers")

    def send(self, packed: Packed) -> Any:
        """The value, or dask's own reference to it."""
        content = packed.content
        if isinstance(content, Claim) or len(content) <= LIMIT_BYTES:
            return content
        with self._lock:
            if packed.replica is None:
                packed.replica = self._client.scatter(content, hash=False)
            return packed.replica

    def submit(self, order: Order, contents: list[Any]) -> Future[Any]:
        """Have the cluster carry it out, as its executor would.

        The future of that executor never ends if the result is lost with its worker while it is fetched:
        ``_cascade_future`` in https://github.com/dask/distributed/blob/main/distributed/cfexecutor.py
        """
        if self._executor._shutdown:
            raise RuntimeError("the executor was shut down")
        future: Future[Any] = Future()
        theirs = self._client.submit(work, order, *contents, **{"pure": False, **self._executor._kwargs})
        theirs.add_done_callback(future.set_result)
        return future

    def answer(self, future: Future[Any]) -> Answer:
        """What the cluster gave. It is let go of then, or dask would run the stage again if its worker dies later."""
        theirs = future.result()
        try:
            answer: Answer = theirs.result()
        finally:
            theirs.release()
        return answer

    def call_off(self) -> None:
        """Nothing: a worker of a cluster knows the time that it has, and no more."""

    def close(self) -> None:
        """Nothing: dask forgets what nobody refers to."""


def carrier_for(executor: Executor, folder: PrivateFolder, transaction: str) -> Carrier:
    """The way that goes with an executor.

    The client is no public attribute of dask's executor:
    https://github.com/dask/distributed/blob/main/distributed/cfexecutor.py
    """
    if type(executor).__module__.split(".")[0] == "distributed":
        return Cluster(executor)
    return Machine(executor, folder, transaction)


class Elsewhere:
    """Runs the stages of one transaction on an executor whose workers are other processes. It stays the caller's.

    :raises InvalidPipeline: if a function, or `inputs`, cannot be sent there; the text names all of them.
    :raises StageWithdrawn: if a plugin that contributed one of the stages has gone.
    """

    can_run_inline = False

    def __init__(
        self, executor: Executor, pipeline: Pipeline, inputs: Any, *, folder: PrivateFolder, transaction: str
    ) -> None:
        self._carrier: Final = carrier_for(executor, folder, transaction)
        self._dumps: Final = pickler(by_value=self._carrier.by_value)
        self._functions, self._inputs = self._packed(pipeline, inputs)
        self._under_way: dict[Future[Any], list[Packed]] = {}

    def submit(self, call: Callable[..., Any], job: Any, /) -> Future[Any]:
        """Send a call of a stage's own function. `call` itself was sent to be pickled when the transaction began.

        :raises Exception: what the executor raises that does not take it, and what pickling a value raises.
        """
        if isinstance(job, UndoJob):
            self._carrier.check()
        values = self._values(job)
        order = self._order(job)
        contents = [self._carrier.send(value) for value in values]
        future = self._carrier.submit(order, contents)
        # A file goes with the last reference to its value, and a worker may still have to read it.
        self._under_way[future] = values
        future.add_done_callback(self._forget)
        return future

    def receive(self, future: Future[Any]) -> Landing:
        """What came of a call, with its result still packed."""
        try:
            answer = self._carrier.answer(future)
        except BaseException as error:
            return Landing(None, error.with_traceback(None), False)
        if answer.kind == "done":
            return Landing(Packed(answer.content), None, True)
        return Landing(None, answer.failure(), answer.kind == "raised")

    def call_off(self) -> None:
        """Tell the stages that run that they should end, where that is possible."""
        self._carrier.call_off()

    def leave(self) -> None:
        """The transaction is over."""
        self._carrier.close()

    def _packed(self, pipeline: Pipeline, inputs: Any) -> tuple[dict[tuple[str, bool], bytes], Packed]:
        problems: list[str] = []

        def pickled(what: str, value: Any) -> bytes:
            try:
                return self._dumps(value)
            except StageWithdrawn:
                raise
            except Exception as error:
                problems.append(f"{what} cannot be pickled: {error}")
                return b""

        functions = {
            (stage.name, is_undo): pickled(f"the {kind} of stage {stage.name!r}", function)
            for index, stage in enumerate(pipeline.stages)
            for is_undo, kind, function, is_at_home in (
                (False, "function", stage.run, pipeline.runs_async[index]),
                (True, "undo", stage.undo, pipeline.undoes_async[index]),
            )
            if function is not None and not is_at_home
        }
        packed = Packed(pickled("the value of inputs", inputs))
        if problems:
            raise InvalidPipeline(
                f"pipeline {pipeline.name!r} cannot be sent to other processes: {'; '.join(problems)}",
                problems=tuple(problems),
                advice="Use functions of modules that workers can import, and values that can be pickled",
            )
        return functions, packed

    def _values(self, job: Job | UndoJob) -> list[Packed]:
        if isinstance(job, UndoJob):
            return [self._pack(job.captured, f"the captured state of stage {job.stage!r}")]
        results = (self._pack(value, f"the result of stage {name!r}") for name, value in job.results.items())
        return [self._inputs, *results]

    def _pack(self, value: Any, what: str) -> Packed:
        if type(value) is Packed:
            return value
        try:
            return Packed(self._dumps(value))
        except Exception as error:
            problem = f"{what} cannot be sent to a worker: {error}"
        raise TypeError(problem)

    def _order(self, job: Job | UndoJob) -> Order:
        is_undo = isinstance(job, UndoJob)
        cancel: CancelToken = job.cancel
        return Order(
            function=self._functions[job.stage, is_undo],
            transaction=job.transaction,
            stage=job.stage,
            attempt=job.attempt if isinstance(job, UndoJob) else 0,
            needs=() if isinstance(job, UndoJob) else tuple(job.results),
            remaining_seconds=cancel.remaining_seconds,
            folder=self._carrier.folder,
            by_value=self._carrier.by_value,
        )

    def _forget(self, future: Future[Any]) -> None:
        self._under_way.pop(future, None)
