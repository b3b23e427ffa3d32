"""Mistakes that an author makes in the first ten minutes, and what is said about them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from weighbridge_hookspecs import ConfigurationError

from weighbridge_pipeline import Builder, Job, PipelineScaling, PipelineSettings, Stage, TransactionFailed, build


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


@pytest.fixture
def pipelines() -> Iterator[PipelineScaling]:
    scaling = PipelineScaling(PipelineSettings(), Surroundings())
    yield scaling
    scaling.close()


def one(job: Job) -> int:
    return 1


def test_the_decorator_works_without_parentheses() -> None:
    """The function stays as it is, and is a stage of its name."""
    builder = Builder("p")
    assert builder.stage(one) is one
    assert [stage.name for stage in builder.build().stages] == ["one"]


@pytest.mark.parametrize("given", [("fetch",), (one, one), (5,)])
def test_options_by_position_are_refused(given: Any) -> None:
    """A need that was forgotten to be named must not become the function."""
    with pytest.raises(ConfigurationError, match="Give options by name"):
        Builder("p").stage(*given)
    with pytest.raises(ConfigurationError, match="Give options by name"):
        Builder("p").stage(one, needs="fetch")  # type: ignore[call-overload]  # that is the mistake


@pytest.mark.parametrize("given", [Builder("p"), [Stage(name="a", run=one)], None])
def test_what_is_no_pipeline_is_not_run(pipelines: PipelineScaling, given: Any) -> None:
    """The error says what makes one."""
    with pytest.raises(ConfigurationError, match="Give what build gives"):
        pipelines.run(given)


def test_a_result_that_is_not_needed_is_named_with_what_is(pipelines: PipelineScaling) -> None:
    """The need was forgotten, or misspelt."""
    stages = [Stage(name=name, run=one) for name in ("fetch", "parse")]
    last = Stage(name="load", run=lambda job: job["parse"], needs="fetch")
    with pytest.raises(TransactionFailed) as caught:
        pipelines.run(build("p", [*stages, last]))
    assert "stage 'load' does not need 'parse', but fetch" in str(caught.value)


def test_a_stage_that_nobody_contributed_is_named() -> None:
    """With the plugin that was asked."""
    scaling = PipelineScaling(PipelineSettings(), Surroundings())
    with pytest.raises(KeyError, match="'scanner' has not contributed 'scan', but nothing"):
        scaling.stage("scanner", "scan")
    scaling.close()


def test_a_stage_that_is_late_is_named_once(pipelines: PipelineScaling) -> None:
    """Its own deadline is said in one sentence, and what a stage raised in two parts."""

    def late(job: Job) -> None:
        job.cancel.wait()

    slow = Stage(name="slow", run=late, deadline_seconds=0.05)
    with pytest.raises(TransactionFailed) as caught:
        pipelines.run(build("p", [slow]))
    assert str(caught.value.exceptions[0]) == "stage 'slow' did not end within 0.05 s"
    with pytest.raises(TransactionFailed) as caught:
        pipelines.run(build("p", [Stage(name="wrong", run=lambda job: 1 // 0)]))
    assert str(caught.value.exceptions[0]).startswith("stage 'wrong' failed: ZeroDivisionError: ")
