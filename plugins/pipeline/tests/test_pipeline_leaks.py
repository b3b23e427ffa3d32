"""What a transaction leaves behind: nothing, in whatever way it ended."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from weighbridge_pipeline import Job, PipelineScaling, PipelineSettings, Stage, TransactionFailed, UndoJob, build

SOON = 30.0


class Gate(threading.Semaphore):
    """As much of a gate as is needed where nobody has to wait."""

    def enter(self, **options: Any) -> Gate:
        return self

    def release(self, n: int = 1) -> None:
        super().release(n)


class Surroundings:
    """A context that lends a gate, and no store."""

    store: Any = None

    def gate(self, limit: int, **options: Any) -> Any:
        return Gate(limit)


class Big:
    """What a stage gives, captures or is given."""


def give(job: Job) -> Big:
    return Big()


def undo(job: UndoJob) -> None:
    assert isinstance(job.captured, Big)


def fails(job: Job) -> None:
    local = Big()
    raise ValueError(local)


def fails_too(job: UndoJob) -> None:
    local = Big()
    raise OSError(local)


def runs_out(job: Job) -> Big:
    assert job.cancel.wait(SOON)
    return Big()


@pytest.fixture
def pipelines() -> Iterator[PipelineScaling]:
    scaling = PipelineScaling(PipelineSettings(), Surroundings())
    yield scaling
    scaling.close()


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def two(**options: Any) -> list[Stage]:
    return [Stage(name="a", run=give, undo=undo), Stage(**{"name": "b", "needs": "a", **options})]


ENDS: dict[str, Callable[[], list[Stage]]] = {
    "well": lambda: two(run=give, undo=undo),
    "rolled back": lambda: two(run=fails),
    "undo failed": lambda: [*two(run=give, undo=fails_too), Stage(name="c", run=fails, needs="b")],
    "out of time": lambda: two(run=runs_out, undo=undo),
}


def alive() -> int:
    return sum(type(thing) is Big for thing in gc.get_objects())


def perform(scaling: PipelineScaling, stages: list[Stage]) -> None:
    deadline = 0.05 if stages[-1].run is runs_out else SOON
    with suppress(TransactionFailed):
        scaling.run(build("p", stages), Big(), deadline_seconds=deadline)


def settle() -> None:
    """Let workers come back from what they did last: the caller may be told a moment before."""
    for _ in range(50):
        if not alive():
            return
        threading.Event().wait(0.01)


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("end", ENDS)
def test_everything_goes_without_the_collector(pipelines: PipelineScaling, end: str) -> None:
    """Inputs, results, captured state and what errors held are freed by their counts alone, though workers live on."""
    perform(pipelines, ENDS[end]())
    settle()
    assert alive() == 0


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("end", ENDS)
def test_no_ring_is_made(pipelines: PipelineScaling, end: str) -> None:
    """A collection after a transaction finds nothing of it."""
    stages = ENDS[end]()
    perform(pipelines, stages)
    settle()
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        perform(pipelines, stages)
        settle()
        gc.collect()
        found = [thing for thing in gc.garbage if type(thing).__module__.startswith("weighbridge")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert found == []


@pytest.mark.parametrize("end", ENDS)
def test_functions_go_with_their_pipeline(pipelines: PipelineScaling, end: str) -> None:
    """No worker, no statistics and no token keeps a closure of a stage once nobody has the pipeline."""
    function = ENDS[end]()[-1].run

    def run(job: Job) -> Any:
        return function(job)

    watched = weakref.ref(run)
    stages = two(run=run)
    deadline = 0.05 if function is runs_out else SOON
    with suppress(TransactionFailed):
        pipelines.run(build("p", stages), deadline_seconds=deadline)
    del run, stages
    settle()
    gc.collect()
    assert watched() is None


def test_a_caught_error_is_all_that_keeps_what_it_held(pipelines: PipelineScaling) -> None:
    """As long as the caller has it there is the stage's frame; then there is not."""
    with pytest.raises(TransactionFailed) as caught:
        pipelines.run(build("p", two(run=fails)))
    cause = caught.value.exceptions[0].__cause__
    assert cause is not None
    assert isinstance(cause.args[0], Big)
    del cause, caught
    gc.collect()
    settle()
    assert alive() == 0


@pytest.mark.usefixtures("_no_collector")
def test_a_handle_is_all_that_keeps_its_error(pipelines: PipelineScaling) -> None:
    """Asking twice raises the same error twice, and makes no ring of it."""
    handle = pipelines.submit(build("p", two(run=fails)))
    for _ in range(2):
        with suppress(TransactionFailed):
            handle.result(SOON)
    del handle
    settle()
    assert alive() == 0


def test_no_thread_is_left(pipelines: PipelineScaling) -> None:
    """None is there before the first transaction, and none after the end."""

    def ours() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("weighbridge-pipeline")]

    assert ours() == []
    perform(pipelines, ENDS["rolled back"]())
    assert ours() != []
    pipelines.close()
    assert ours() == []
    pipelines.close()
