"""Running forwards: order, results, cancellation, deadlines, other executors, coroutines, and who is told."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from weighbridge_hookspecs import Cancelled, ConfigurationError, DeadlineExceeded, StageFailed

from weighbridge_pipeline import (
    CancelToken,
    Job,
    Pipeline,
    PipelineScaling,
    PipelineSettings,
    Progress,
    Stage,
    TransactionFailed,
    Transition,
    UndoJob,
    build,
)

SOON = 30.0
"""Seconds after which a test that waits for an event has failed."""


class Gate(threading.Semaphore):
    """As much of a gate as is needed where nobody has to wait."""

    def enter(self, **options: Any) -> Gate:
        return self

    def resize(self, limit: int) -> None:
        """Nothing."""

    def release(self, n: int = 1) -> None:
        super().release(n)


class Surroundings:
    """A context that lends a gate, and no store."""

    store: Any = None

    def gate(self, limit: int, **options: Any) -> Any:
        return Gate(limit)


@pytest.fixture(scope="module")
def pipelines() -> Iterator[PipelineScaling]:
    scaling = PipelineScaling(PipelineSettings(), Surroundings())
    yield scaling
    scaling.close()


def failure(scaling: PipelineScaling, pipeline: Pipeline, inputs: Any = None, **options: Any) -> TransactionFailed:
    with pytest.raises(TransactionFailed) as caught:
        scaling.run(pipeline, inputs, **options)
    assert caught.value.result is not None
    return caught.value


def fates(error: TransactionFailed) -> dict[str, str]:
    assert error.result is not None
    return {name: report.fate for name, report in error.result.stages.items()}


# -- order and results -------------------------------------------------------------------------------------------------


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_each_stage_runs_once_with_what_it_needs(pipelines: PipelineScaling, data: st.DataObject) -> None:
    """In a graph of any form every stage runs once, and gets the results of what it needs and no others."""
    count = data.draw(st.integers(1, 12))
    needs = [data.draw(st.sets(st.integers(0, number - 1))) if number else set() for number in range(count)]
    ran: list[str] = []

    def run(job: Job) -> int:
        assert all(job[name] == int(name) for name in job.results)
        assert {int(name) for name in job.results} == needs[int(job.stage)]
        assert {str(need) for need in needs[int(job.stage)]} <= set(ran)
        ran.append(job.stage)
        return int(job.stage)

    stages = [Stage(name=str(number), run=run, needs=map(str, wanted)) for number, wanted in enumerate(needs)]
    result = pipelines.run(build("p", stages))
    assert sorted(ran, key=int) == [str(number) for number in range(count)]
    assert set(result.with_fate("done")) == set(ran)
    needed = set().union(*needs)
    assert result.results == {str(number): number for number in range(count) if number not in needed}


def test_every_stage_gets_the_inputs(pipelines: PipelineScaling) -> None:
    """What the transaction was begun with is there for each stage, and so are its name and its key."""
    seen: list[tuple[Any, str]] = []
    stages = [Stage(name=name, run=lambda job: seen.append((job.inputs, job.key))) for name in "ab"]
    result = pipelines.run(build("p", stages), inputs={"x": 1})
    assert sorted(seen, key=str) == [({"x": 1}, f"{result.transaction}/{name}") for name in "ab"]


def test_a_result_is_kept_where_the_stage_says_so(pipelines: PipelineScaling) -> None:
    """Otherwise it goes when the last stage that needs it has ended, so that big ones do not pile up."""
    chain = [
        Stage(name="a", run=lambda job: 1),
        Stage(name="b", run=lambda job: job["a"] + 1, needs="a", keep=True),
        Stage(name="c", run=lambda job: job["b"] + 1, needs="b"),
    ]
    result = pipelines.run(build("p", chain))
    assert (result["b"], result["c"]) == (2, 3)
    assert "a" not in result.results


def test_independent_stages_run_side_by_side(pipelines: PipelineScaling) -> None:
    """Four stages that wait for each other all come to their end."""
    barrier = threading.Barrier(4, timeout=SOON)
    stages = [Stage(name=name, run=lambda job: barrier.wait()) for name in "abcd"]
    result = pipelines.run(build("p", stages))
    assert result.outcome == "done"


def test_a_pipeline_serves_many_transactions_at_once(pipelines: PipelineScaling) -> None:
    """Transactions of one pipeline have identifiers and results of their own."""
    barrier = threading.Barrier(3, timeout=SOON)

    def run(job: Job) -> Any:
        barrier.wait()
        return job.inputs

    pipeline = build("p", [Stage(name="a", run=run)])
    handles = [pipelines.submit(pipeline, number) for number in range(3)]
    results = [handle.result(SOON) for handle in handles]
    assert [result["a"] for result in results] == [0, 1, 2]
    assert len({result.transaction for result in results}) == 3
    assert all(handle.is_done() for handle in handles)


def test_a_wide_and_a_deep_graph_end(pipelines: PipelineScaling) -> None:
    """Two thousand stages side by side, and as many in a row, neither fill a stack nor stand still."""
    wide = [Stage(name=str(number), run=lambda job: None) for number in range(2000)]
    deep = [Stage(name=str(n), run=lambda job: None, needs=[str(n - 1)] if n else []) for n in range(2000)]
    assert pipelines.run(build("wide", wide)).outcome == "done"
    assert pipelines.run(build("deep", deep, max_depth=2000)).outcome == "done"


# -- failures ----------------------------------------------------------------------------------------------------------


def test_the_error_has_what_was_raised_as_its_cause(pipelines: PipelineScaling) -> None:
    """Each stage that failed is a StageFailed with its name; its cause is the very object, with the stage's frames."""
    raised = OSError("no such disk")

    def run(job: Job) -> None:
        raise raised

    error = failure(pipelines, build("p", [Stage(name="a", run=run), Stage(name="b", run=print, needs="a")]))
    (member,) = error.exceptions
    assert isinstance(member, StageFailed)
    assert member.stage == "a"
    assert member.__cause__ is raised
    assert raised.__traceback__ is not None
    assert raised.__traceback__.tb_frame.f_code is run.__code__
    assert fates(error) == {"a": "failed", "b": "not started"}
    assert error.result is not None
    assert error.result.stages["a"].error == "OSError: no such disk"
    assert str(error).startswith("pipeline 'p': stage 'a' failed: OSError: no such disk; 0 undone")


def test_what_except_star_gives_has_the_result(pipelines: PipelineScaling) -> None:
    """A part of the group says, as the whole does, what became of every stage."""
    error = failure(pipelines, build("p", [Stage(name="a", run=lambda job: 1 / 0)]))
    parts: list[BaseException] = []
    try:
        raise error
    except* StageFailed as group:
        parts.append(group)
    (part,) = parts
    assert isinstance(part, TransactionFailed)
    assert part.result is error.result


def test_not_even_sys_exit_ends_a_worker(pipelines: PipelineScaling) -> None:
    """What a stage raises that is no Exception is its failure, and not the thread's."""

    def run(job: Job) -> None:
        raise SystemExit(3)

    error = failure(pipelines, build("p", [Stage(name="a", run=run)]))
    assert isinstance(error.exceptions[0].__cause__, SystemExit)


def test_a_failed_transaction_begins_no_more_stages(pipelines: PipelineScaling) -> None:
    """What does not depend on the failed stage is not begun either, once it has failed."""
    began = threading.Event()

    def slow(job: Job) -> None:
        began.set()
        assert job.cancel.wait(SOON)

    def fails(job: Job) -> None:
        assert began.wait(SOON)
        raise ValueError("no")

    stages = [
        Stage(name="fails", run=fails),
        Stage(name="slow", run=slow),
        Stage(name="behind", run=lambda job: None, needs="slow"),
    ]
    error = failure(pipelines, build("p", stages))
    assert fates(error) == {"fails": "failed", "slow": "done", "behind": "not started"}


# -- calling off -------------------------------------------------------------------------------------------------------


def test_calling_off_undoes_what_was_done(pipelines: PipelineScaling) -> None:
    """A running stage is told, what was done is undone, and the error says who ended it."""
    began, token, undone = threading.Event(), CancelToken(), []

    def waits(job: Job) -> None:
        began.set()
        assert job.cancel.wait(SOON)
        job.cancel.raise_if_set()

    stages = [
        Stage(name="a", run=lambda job: "A", undo=lambda job: undone.append(job.captured)),
        Stage(name="b", run=waits, needs="a"),
    ]
    handle = pipelines.submit(build("p", stages), cancel=token)
    assert began.wait(SOON)
    token.set()
    with pytest.raises(TransactionFailed) as caught:
        handle.result(SOON)
    assert [type(error) for error in caught.value.exceptions] == [Cancelled]
    assert fates(caught.value) == {"a": "undone", "b": "cancelled"}
    assert undone == ["A"]


def test_a_handle_calls_off(pipelines: PipelineScaling) -> None:
    """Cancelling what was submitted is setting its token; after the end it changes nothing."""
    began = threading.Event()

    def waits(job: Job) -> None:
        began.set()
        assert job.cancel.wait(SOON)

    handle = pipelines.submit(build("p", [Stage(name="a", run=waits)]))
    assert began.wait(SOON)
    with pytest.raises(TimeoutError):
        handle.result(0)
    handle.cancel()
    with pytest.raises(TransactionFailed):
        handle.result(SOON)
    handle.cancel()
    with pytest.raises(TransactionFailed):
        handle.result(SOON)


def test_what_was_called_off_before_does_not_begin(pipelines: PipelineScaling) -> None:
    """A token that is set already lets nothing run."""
    token = CancelToken()
    ran: list[Any] = []
    token.set()
    with pytest.raises(Cancelled, match="before it had begun"):
        pipelines.run(build("p", [Stage(name="a", run=ran.append)]), cancel=token)
    assert ran == []


# -- deadlines ---------------------------------------------------------------------------------------------------------


def test_the_deadline_ends_a_transaction(pipelines: PipelineScaling) -> None:
    """A stage that goes by its token ends then; the error is a DeadlineExceeded with the time there was."""
    stages = [Stage(name="a", run=lambda job: job.cancel.wait(SOON)), Stage(name="b", run=print, needs="a")]
    error = failure(pipelines, build("p", stages), deadline_seconds=0.05)
    (member,) = error.exceptions
    assert isinstance(member, DeadlineExceeded)
    assert member.deadline_seconds == 0.05
    assert fates(error)["b"] == "not started"


def test_a_stage_that_sees_its_end_first_is_no_failure_of_its_own(pipelines: PipelineScaling) -> None:
    """One that raises Cancelled because the time is up is cancelled, and the deadline is what went wrong."""

    def run(job: Job) -> None:
        while not job.cancel.is_set():
            assert job.remaining_seconds is not None
        job.cancel.raise_if_set()

    error = failure(pipelines, build("p", [Stage(name="a", run=run)]), deadline_seconds=0.05)
    assert [type(member) for member in error.exceptions] == [DeadlineExceeded]
    assert fates(error) == {"a": "cancelled"}


def test_a_stage_may_have_a_deadline_of_its_own(pipelines: PipelineScaling) -> None:
    """It is told by its own token, and the transaction fails with its name."""
    told = []

    def run(job: Job) -> None:
        told.append(job.cancel.wait(SOON))

    stages = [
        Stage(name="quick", run=lambda job: None, deadline_seconds=SOON),
        Stage(name="slow", run=run, needs="quick"),
    ]
    stages.append(Stage(name="late", run=run, deadline_seconds=0.05))
    error = failure(pipelines, build("p", stages))
    (member,) = error.exceptions
    assert isinstance(member, StageFailed)
    assert (member.stage, str(member.__cause__)) == ("late", "stage 'late' did not end within 0.05 s")
    assert told == [True, True]


@pytest.mark.parametrize("seconds", [0, -1, "1", True, float("nan")])
def test_a_deadline_of_no_sense_is_refused(pipelines: PipelineScaling, seconds: Any) -> None:
    """Before anything runs."""
    with pytest.raises(ConfigurationError, match="deadline_seconds is"):
        pipelines.run(build("p", [Stage(name="a", run=print)]), deadline_seconds=seconds)


# -- where it runs -----------------------------------------------------------------------------------------------------


def double(job: Job) -> int:
    return 2 * int(job["number"] if job.results else job.inputs)


def refuse(job: Job) -> int:
    raise ValueError(f"{job.inputs} is refused")


def undo_into(job: UndoJob) -> None:
    with open(job.captured, "a", encoding="utf-8") as file:
        file.write(f"{job.stage} ")


def give_path(job: Job) -> str:
    return str(job.inputs)


class Elsewhere(Executor):
    """Like another process: what goes there and comes back is pickled."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(2)

    def submit(self, function: Any, /, *arguments: Any, **keywords: Any) -> Any:
        return self.pool.submit(perform, pickle.dumps((function, arguments)))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.pool.shutdown(wait)


def perform(call: bytes) -> Any:
    function, arguments = pickle.loads(call)
    return pickle.loads(pickle.dumps(function(*arguments)))


@pytest.fixture(scope="module", params=[lambda: ThreadPoolExecutor(2), Elsewhere], ids=["threads", "elsewhere"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    with request.param() as made:
        yield made


def numbers() -> Pipeline:
    return build(
        "numbers",
        [
            Stage(name="number", run=double),
            *(Stage(name=name, run=double, needs="number") for name in ("left", "right")),
        ],
    )


def test_the_same_pipeline_runs_on_any_executor(pipelines: PipelineScaling, executor: Executor) -> None:
    """Results come back from threads of the caller's own, and from where everything has to be pickled."""
    assert pipelines.run(numbers(), 5, executor=executor).results == {"left": 20, "right": 20}


def test_a_rollback_runs_where_the_stages_ran(pipelines: PipelineScaling, executor: Executor, tmp_path: Any) -> None:
    """The undos get the captured state there, in reverse order."""
    log = tmp_path / "undone"
    stages = [
        Stage(name="a", run=give_path, undo=undo_into),
        Stage(name="b", run=give_path, undo=undo_into, needs="a"),
        Stage(name="c", run=refuse, needs="b"),
    ]
    error = failure(pipelines, build("p", stages), log, executor=executor)
    assert log.read_text() == "b a "
    assert fates(error) == {"a": "undone", "b": "undone", "c": "failed"}
    assert isinstance(error.exceptions[0].__cause__, ValueError)


def test_an_executor_that_takes_nothing_fails_the_stage(pipelines: PipelineScaling) -> None:
    """One that was shut down fails the first stage, and the transaction comes to its end all the same."""
    with ThreadPoolExecutor(1) as executor:
        pass
    error = failure(pipelines, numbers(), 5, executor=executor)
    assert fates(error)["number"] == "failed"
    assert isinstance(error.exceptions[0].__cause__, RuntimeError)


def test_undos_run_at_home_where_the_executor_ends_in_between(pipelines: PipelineScaling) -> None:
    """What was done on an executor that takes nothing more is undone in threads of the plugin's."""
    executor = ThreadPoolExecutor(1)
    undone: list[str] = []

    def last(job: Job) -> None:
        executor.shutdown(wait=False)
        raise ValueError("no")

    stages = [
        Stage(name="a", run=lambda job: 1, undo=lambda job: undone.append(job.stage)),
        Stage(name="b", run=lambda job: 2, undo=lambda job: undone.append(job.stage)),
        Stage(name="c", run=last, needs=["a", "b"]),
    ]
    error = failure(pipelines, build("p", stages), executor=executor)
    assert sorted(undone) == ["a", "b"]
    assert fates(error) == {"a": "undone", "b": "undone", "c": "failed"}


def test_coroutine_functions_are_stages(pipelines: PipelineScaling) -> None:
    """They run in one event loop, side by side, mix with plain functions, and their undos may be such, too."""
    loops, undone = set(), []

    async def ticks(job: Job) -> int:
        await asyncio.sleep(0)
        loops.add(id(asyncio.get_running_loop()))
        return 1 + int(sum(job.results.values()))

    async def undoes(job: UndoJob) -> None:
        await asyncio.sleep(0)
        undone.append((job.stage, job.captured))

    stages = [
        Stage(name="a", run=ticks, undo=undoes),
        Stage(name="b", run=ticks, undo=lambda job: undone.append((job.stage, job.captured)), needs="a"),
        Stage(name="c", run=lambda job: job["b"] + 1, undo=undoes, needs="b"),
    ]
    assert pipelines.run(build("p", stages))["c"] == 3
    stages.append(Stage(name="d", run=lambda job: 1 / 0, needs="c"))
    error = failure(pipelines, build("p", stages))
    assert error.result is not None
    assert undone == [("c", 3), ("b", 2), ("a", 1)]
    assert len(loops) == 1


# -- who is told -------------------------------------------------------------------------------------------------------


def test_the_observer_is_told_before_and_progress_after(pipelines: PipelineScaling) -> None:
    """Each transition once, in order; the captured copy comes before the end of its stage."""
    told: list[str] = []
    shown: list[str] = []

    def observe(transition: Transition) -> None:
        told.append(f"{transition.kind} {transition.stage}")

    def show(progress: Progress) -> None:
        shown.append(f"{progress.kind} {progress.stage} {progress.finished}/{progress.total}")

    stages = [
        Stage(name="a", run=lambda job: 1, undo=lambda job: None),
        Stage(name="b", run=lambda job: 1 / 0, needs="a"),
    ]
    with pytest.raises(TransactionFailed):
        pipelines.run(build("p", stages), observer=observe, progress=show)
    assert told == [
        "begun None",
        "stage started a",
        "captured a",
        "stage done a",
        "stage started b",
        "stage failed b",
        "undo started a",
        "undo done a",
        "ended None",
    ]
    assert shown == [
        "begun None 0/2",
        "stage started a 0/2",
        "stage done a 1/2",
        "stage started b 1/2",
        "stage failed b 1/2",
        "undo started a 1/2",
        "undo done a 0/2",
        "ended None 0/2",
    ]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("stage started", {"a": "failed", "b": "not started"}),
        ("captured", {"a": "undone", "b": "not started"}),
        ("stage done", {"a": "undone", "b": "not started"}),
    ],
)
def test_what_the_observer_refuses_does_not_take_effect(
    pipelines: PipelineScaling, kind: str, expected: dict[str, str]
) -> None:
    """A stage that could not be written down is not begun, or is undone again."""

    def observe(transition: Transition) -> None:
        if transition.kind == kind:
            raise OSError("the disk is full")

    stages = [Stage(name="a", run=lambda job: 1, undo=lambda job: None), Stage(name="b", run=print, needs="a")]
    error = failure(pipelines, build("p", stages), observer=observe)
    assert fates(error) == expected
    assert isinstance(error.exceptions[0].__cause__, OSError)


def test_an_observer_that_refuses_the_beginning_lets_nothing_begin(pipelines: PipelineScaling) -> None:
    """Its own error reaches the caller."""

    def observe(transition: Transition) -> None:
        raise OSError("the disk is full")

    ran: list[Any] = []
    with pytest.raises(OSError, match="the disk is full"):
        pipelines.run(build("p", [Stage(name="a", run=ran.append)]), observer=observe)
    assert ran == []


def test_progress_that_raises_harms_nothing(pipelines: PipelineScaling) -> None:
    """It is counted, and the transaction comes to its end."""
    before = pipelines.statistics().progress_failures
    result = pipelines.run(build("p", [Stage(name="a", run=lambda job: 1)]), progress=lambda progress: 1 / 0)
    assert result["a"] == 1
    assert pipelines.statistics().progress_failures > before
