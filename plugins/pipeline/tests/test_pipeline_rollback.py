"""Rolling back: the reverse of what was done, side by side where that is possible, and nobody stranded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from weighbridge_hookspecs import DeadlineExceeded, StageFailed, UndoFailed

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
from weighbridge_pipeline.rollback import ReverseGraph

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


@pytest.fixture(scope="module")
def pipelines() -> Iterator[PipelineScaling]:
    scaling = PipelineScaling(PipelineSettings(rollback_seconds=SOON), Surroundings())
    yield scaling
    scaling.close()


def failure(scaling: PipelineScaling, *stages: Stage, **options: Any) -> tuple[TransactionFailed, TransactionResult]:
    with pytest.raises(TransactionFailed) as caught:
        scaling.run(build("p", stages), **options)
    assert caught.value.result is not None
    return caught.value, caught.value.result


def fates(result: TransactionResult) -> dict[str, str]:
    return {name: report.fate for name, report in result.stages.items()}


def nothing(job: Job) -> None:
    """A stage that does nothing."""


def fails(job: Job) -> None:
    raise ValueError("no")


# -- order -------------------------------------------------------------------------------------------------------------


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
def test_what_was_done_is_undone_once_and_in_reverse(pipelines: PipelineScaling, data: st.DataObject) -> None:
    """In any graph, whatever fails: exactly what was done and has an undo is undone, behind what needed it."""
    count = data.draw(st.integers(1, 12))
    needs = [data.draw(st.sets(st.integers(0, number - 1))) if number else set() for number in range(count)]
    failing = data.draw(st.sets(st.integers(0, count - 1), min_size=1))
    without = data.draw(st.sets(st.integers(0, count - 1)))
    unable = data.draw(st.sets(st.integers(0, count - 1)))
    lock, done, tried = threading.Lock(), [], []

    def run(job: Job) -> str:
        if int(job.stage) in failing:
            raise ValueError(job.stage)
        with lock:
            done.append(job.stage)
        return job.stage

    def undo(job: UndoJob) -> None:
        assert job.captured == job.stage
        with lock:
            tried.append(job.stage)
        if int(job.stage) in unable:
            raise OSError(job.stage)

    stages = [
        Stage(name=str(n), run=run, needs=map(str, wanted), undo=None if n in without else undo)
        for n, wanted in enumerate(needs)
    ]
    _, result = failure(pipelines, *stages)
    assert sorted(tried) == sorted(name for name in done if int(name) not in without)
    assert all(
        tried.index(after) < tried.index(before) for after in tried for before in tried if leads(needs, before, after)
    )
    expected = {str(n): "not started" for n in range(count)} | dict.fromkeys(done, "undone")
    expected |= {name: "done" for name in done if int(name) in without}
    expected |= {name: "undo failed" for name in tried if int(name) in unable}
    found = fates(result)
    assert found == expected | {
        name: "failed" for name, fate in found.items() if int(name) in failing and fate == "failed"
    }
    assert "failed" in found.values()


def leads(needs: list[set[int]], before: str, after: str) -> bool:
    """Whether `after` needs `before`, itself or through others."""
    return any(need == int(before) or leads(needs, before, str(need)) for need in needs[int(after)])


def test_independent_undos_run_side_by_side(pipelines: PipelineScaling) -> None:
    """Four undos that wait for each other all come to their end."""
    barrier = threading.Barrier(4, timeout=SOON)
    stages = [Stage(name=name, run=nothing, undo=lambda job: barrier.wait()) for name in "abcd"]
    _, result = failure(pipelines, *stages, Stage(name="x", run=fails, needs=list("abcd")))
    assert result.outcome == "rolled back"
    assert result.with_fate("undone") == tuple("abcd")


def test_a_chain_is_undone_backwards(pipelines: PipelineScaling) -> None:
    """The last stage first."""
    undone: list[str] = []
    stages = [
        Stage(name=str(n), run=nothing, undo=lambda job: undone.append(job.stage), needs=[str(n - 1)] if n else [])
        for n in range(5)
    ]
    failure(pipelines, *stages, Stage(name="x", run=fails, needs="4"))
    assert undone == ["4", "3", "2", "1", "0"]


def test_a_stage_without_undo_is_no_obstacle(pipelines: PipelineScaling) -> None:
    """What is in front of it is undone, behind what is behind it."""
    undone: list[str] = []

    def undo(job: UndoJob) -> None:
        undone.append(job.stage)

    _, result = failure(
        pipelines,
        Stage(name="a", run=nothing, undo=undo),
        Stage(name="b", run=nothing, needs="a"),
        Stage(name="c", run=nothing, undo=undo, needs="b"),
        Stage(name="x", run=fails, needs="c"),
    )
    assert undone == ["c", "a"]
    assert result.stages["b"].fate == "done"


def test_nothing_is_free_that_somebody_runs_behind() -> None:
    """The counters hold a stage back as long as one that needs it is not settled, and settle each once."""
    graph = ReverseGraph(
        needs=[(), (0,), (0,), (1, 2)], needed_by=[(1, 2), (3,), (3,), ()], live=[True, True, True, False]
    )
    assert [graph.is_free(index) for index in range(3)] == [False, True, True]
    assert graph.settle(1) == []
    assert graph.settle(2) == [0]
    assert graph.settle(0) == []
    assert graph.left == 0


# -- what still runs ---------------------------------------------------------------------------------------------------


def test_a_running_stage_is_undone_after_its_end_and_not_before(pipelines: PipelineScaling) -> None:
    """It ends well although the transaction has failed, and is undone then; what it needs waits for that."""
    began, events = threading.Event(), []

    def slow(job: Job) -> str:
        began.set()
        assert job.cancel.wait(SOON)
        events.append("slow ended")
        return "slow's"

    def fails_then(job: Job) -> None:
        assert began.wait(SOON)
        raise ValueError("no")

    def undo(job: UndoJob) -> None:
        events.append(f"undo {job.stage}")

    _, result = failure(
        pipelines,
        Stage(name="first", run=nothing, undo=undo),
        Stage(name="slow", run=slow, undo=undo, needs="first"),
        Stage(name="fails", run=fails_then, needs="first"),
    )
    assert events == ["slow ended", "undo slow", "undo first"]
    assert fates(result) == {"first": "undone", "slow": "undone", "fails": "failed"}


def test_a_running_stage_does_not_hold_up_others(pipelines: PipelineScaling) -> None:
    """What it does not need is undone while it runs."""
    began, aside_undone = threading.Event(), threading.Event()

    def slow(job: Job) -> None:
        began.set()
        assert aside_undone.wait(SOON)

    def fails_then(job: Job) -> None:
        assert began.wait(SOON)
        raise ValueError("no")

    _, result = failure(
        pipelines,
        Stage(name="aside", run=nothing, undo=lambda job: aside_undone.set()),
        Stage(name="slow", run=slow, undo=lambda job: None),
        Stage(name="fails", run=fails_then, needs="aside"),
    )
    assert result.with_fate("undone") == ("aside", "slow")


def test_two_failures_are_both_in_the_error(pipelines: PipelineScaling) -> None:
    """A stage that fails after the transaction has failed is in the group as well."""
    barrier = threading.Barrier(2, timeout=SOON)

    def fails_together(job: Job) -> None:
        barrier.wait()
        raise ValueError(job.stage)

    error, _ = failure(pipelines, *(Stage(name=name, run=fails_together) for name in "ab"))
    assert {member.stage for member in error.exceptions if isinstance(member, StageFailed)} == {"a", "b"}


def test_the_caller_goes_when_the_rollback_takes_too_long() -> None:
    """A stage that listens to nobody is reported as running; it is undone when it ends, and its place given back."""
    scaling = PipelineScaling(PipelineSettings(rollback_seconds=0.05, max_transactions=1), Surroundings())
    let_go, undone = threading.Event(), threading.Event()
    deaf = Stage(name="deaf", run=lambda job: let_go.wait(SOON), undo=lambda job: undone.set())
    error, result = failure(scaling, deaf, deadline_seconds=0.05)
    assert [type(member) for member in error.exceptions] == [DeadlineExceeded]
    assert (result.outcome, result.stages["deaf"].fate) == ("incomplete", "running")
    assert str(error).startswith("pipeline 'p': pipeline 'p' did not end within 0.05 s; 0 undone, not deaf")
    assert not undone.is_set()
    assert scaling.metrics().running == 1
    let_go.set()
    assert undone.wait(SOON)
    scaling.close()
    assert scaling.metrics().running == 0


# -- undos that fail ---------------------------------------------------------------------------------------------------


def test_a_failing_undo_strands_no_other(pipelines: PipelineScaling) -> None:
    """It is recorded, and everything in front of it is undone all the same."""

    def cannot(job: UndoJob) -> None:
        raise OSError("stuck")

    error, result = failure(
        pipelines,
        Stage(name="a", run=nothing, undo=lambda job: None),
        Stage(name="b", run=nothing, undo=cannot, needs="a"),
        Stage(name="c", run=nothing, undo=lambda job: None, needs="b"),
        Stage(name="x", run=fails, needs="c"),
    )
    assert fates(result) == {"a": "undone", "b": "undo failed", "c": "undone", "x": "failed"}
    assert result.outcome == "incomplete"
    first, second = error.exceptions
    assert isinstance(first, StageFailed)
    assert isinstance(second, UndoFailed)
    assert (second.stage, second.attempts) == ("b", 1)
    assert isinstance(second.__cause__, OSError)


@pytest.mark.parametrize("pause", [0.0, 0.01])
def test_an_undo_is_tried_again_as_often_as_the_stage_says(pipelines: PipelineScaling, pause: float) -> None:
    """With the same key and a count that goes up, after a pause or at once; two retries are three attempts."""
    jobs: list[UndoJob] = []

    def third_time(job: UndoJob) -> None:
        jobs.append(job)
        if job.attempt < 3:
            raise OSError("not yet")

    options: dict[str, Any] = {"run": nothing, "undo": third_time, "undo_retry_seconds": pause}
    _, result = failure(pipelines, Stage(name="a", undo_retries=2, **options), Stage(name="x", run=fails, needs="a"))
    assert [job.attempt for job in jobs] == [1, 2, 3]
    assert {job.key for job in jobs} == {f"{result.transaction}/a"}
    assert (result.stages["a"].fate, result.stages["a"].undo_attempts) == ("undone", 3)
    jobs.clear()
    error, result = failure(
        pipelines, Stage(name="a", undo_retries=1, **options), Stage(name="x", run=fails, needs="a")
    )
    assert (result.stages["a"].fate, result.stages["a"].undo_attempts) == ("undo failed", 2)
    assert [type(member) for member in error.exceptions] == [StageFailed, UndoFailed]


def test_an_undo_that_takes_too_long_strands_no_other(pipelines: PipelineScaling) -> None:
    """Its own token is set, it is recorded as failed, and those in front of it do not wait for it."""
    told, first_undone = threading.Event(), threading.Event()

    def endless(job: UndoJob) -> None:
        assert job.cancel.wait(SOON)
        told.set()
        assert first_undone.wait(SOON)

    error, result = failure(
        pipelines,
        Stage(name="a", run=nothing, undo=lambda job: first_undone.set()),
        Stage(name="b", run=nothing, undo=endless, undo_deadline_seconds=0.05, needs="a"),
        Stage(name="x", run=fails, needs="b"),
    )
    assert told.wait(SOON)
    assert fates(result) == {"a": "undone", "b": "undo failed", "x": "failed"}
    assert isinstance(error.exceptions[1].__cause__, DeadlineExceeded)


def test_an_undo_runs_though_the_deadline_has_passed(pipelines: PipelineScaling) -> None:
    """The transaction's time is up; its undos have their own."""
    left: list[float | None] = []

    def undo(job: UndoJob) -> None:
        left.append(job.remaining_seconds)
        assert not job.cancel.is_set()

    stages = [
        Stage(name="a", run=nothing, undo=undo, undo_deadline_seconds=SOON),
        Stage(name="b", run=lambda job: job.cancel.wait(SOON), needs="a"),
    ]
    _, result = failure(pipelines, *stages, deadline_seconds=0.05)
    assert result.stages["a"].fate == "undone"
    assert left[0] is not None
    assert 1 < left[0] <= SOON


# -- the state that undos get ------------------------------------------------------------------------------------------


def test_what_later_stages_change_is_not_what_the_undo_gets(pipelines: PipelineScaling) -> None:
    """The state is a copy of what the stage gave, as it was then."""
    got: list[Any] = []

    def change(job: Job) -> None:
        job["a"]["files"].append("later")
        raise ValueError("no")

    failure(
        pipelines,
        Stage(name="a", run=lambda job: {"files": ["first"]}, undo=lambda job: got.append(job.captured)),
        Stage(name="b", run=change, needs="a"),
    )
    assert got == [{"files": ["first"]}]


def test_a_stage_says_what_of_its_result_is_captured(pipelines: PipelineScaling) -> None:
    """The rest is not copied, and may be what cannot be."""
    got: list[Any] = []
    failure(
        pipelines,
        Stage(
            name="a",
            run=lambda job: {"id": 7, "lock": threading.Lock()},
            capture=lambda result: result["id"],
            undo=lambda job: got.append(job.captured),
        ),
        Stage(name="b", run=fails, needs="a"),
    )
    assert got == [7]


def test_what_cannot_be_copied_fails_the_stage_and_is_undone(pipelines: PipelineScaling) -> None:
    """Nobody else gets it then, so that its undo can have the very object."""
    lock = threading.Lock()
    got: list[Any] = []
    ran: list[Any] = []
    error, result = failure(
        pipelines,
        Stage(name="a", run=lambda job: lock, undo=lambda job: got.append(job.captured)),
        Stage(name="b", run=ran.append, needs="a"),
    )
    assert got == [lock]
    assert ran == []
    assert fates(result) == {"a": "undone", "b": "not started"}
    assert isinstance(error.exceptions[0].__cause__, TypeError)


def test_without_undo_nothing_is_copied(pipelines: PipelineScaling) -> None:
    """A result that cannot be pickled is fine then."""
    lock = threading.Lock()
    assert pipelines.run(build("p", [Stage(name="a", run=lambda job: lock)]))["a"] is lock


def test_figures_add_up() -> None:
    """Who began has ended well or not; stages and undos are counted."""
    scaling = PipelineScaling(PipelineSettings(), Surroundings())
    good: Pipeline = build("good", [Stage(name="a", run=nothing), Stage(name="b", run=nothing, needs="a")])
    for _ in range(3):
        scaling.run(good)
    failure(scaling, Stage(name="a", run=nothing, undo=lambda job: None), Stage(name="x", run=fails, needs="a"))
    failure(scaling, Stage(name="a", run=nothing, undo=fails), Stage(name="x", run=fails, needs="a"))  # type: ignore[arg-type]
    scaling.close()
    figures = scaling.statistics()
    assert (figures.begun, figures.done, figures.failed, figures.incomplete) == (5, 3, 2, 1)
    assert (figures.stages_done, figures.stages_undone, figures.undos_failed) == (8, 1, 1)
    assert (figures.running, figures.waiting, figures.captured_bytes) == (0, 0, 0)
    assert figures.transaction_seconds is not None
    assert scaling.metrics().completed == 5
