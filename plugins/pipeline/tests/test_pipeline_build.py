"""Building: every mistake in a graph is found before anything runs, and named."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from weighbridge_hookspecs import ConfigurationError, InvalidPipeline

from weighbridge_pipeline import Builder, Job, Stage, build


def nothing(job: Job) -> None:
    """A stage that does nothing."""


def stage(name: str, *needs: str, **options: Any) -> Stage:
    return Stage(name=name, run=nothing, needs=needs, **options)


def chain(length: int) -> list[Stage]:
    return [stage(f"s{number}", *([f"s{number - 1}"] if number else [])) for number in range(length)]


@st.composite
def graphs(draw: st.DrawFn) -> list[Stage]:
    """Stages in any order, each needing some of those of lower numbers."""
    count = draw(st.integers(1, 12))
    needs = [draw(st.sets(st.integers(0, number - 1))) if number else set() for number in range(count)]
    stages = [stage(f"s{number}", *(f"s{need}" for need in wanted)) for number, wanted in enumerate(needs)]
    return draw(st.permutations(stages))


@given(graphs())
def test_stages_come_behind_what_they_need(stages: list[Stage]) -> None:
    """Whatever order stages are given in, the pipeline has each once, behind all that it needs."""
    pipeline = build("p", stages)
    assert {one.name for one in pipeline.stages} == {one.name for one in stages}
    assert len(pipeline) == len(stages)
    seen: set[str] = set()
    for one in pipeline.stages:
        assert seen >= set(one.needs)
        seen.add(one.name)


@given(graphs())
def test_the_numbers_say_what_the_names_say(stages: list[Stage]) -> None:
    """What a transaction counts with is the graph itself, forwards and backwards."""
    pipeline = build("p", stages)
    names = [one.name for one in pipeline.stages]
    for index, one in enumerate(pipeline.stages):
        assert {names[need] for need in pipeline.needs[index]} == set(one.needs)
        assert set(pipeline.needed_by[index]) == {
            other for other, wanted in enumerate(pipeline.needs) if index in wanted
        }
    assert set(pipeline.roots) == {index for index, one in enumerate(pipeline.stages) if not one.needs}


@given(graphs())
def test_the_longest_path_is_a_path_and_none_is_longer(stages: list[Stage]) -> None:
    """Each stage along it needs the one before, and its length is the depth that counting gives."""
    pipeline = build("p", stages)
    known = {one.name: one for one in stages}
    path = pipeline.longest_path
    assert all(before in known[after].needs for before, after in pairwise(path))

    def depth(name: str) -> int:
        return 1 + max(map(depth, known[name].needs), default=0)

    assert pipeline.depth == max(map(depth, known))


def test_a_need_that_is_named_twice_counts_once() -> None:
    """A stage does not wait for the same other one twice."""
    pipeline = build("p", [stage("a"), stage("b", "a", "a")])
    assert pipeline.needs == ((), (0,))
    assert pipeline.needed_by == ((1,), ())


def test_a_ring_is_named() -> None:
    """Stages that need each other are refused, and the error has the ring, closed."""
    with pytest.raises(InvalidPipeline, match=r"ring: (\w -> ){3}\w") as caught:
        build("p", [stage("a", "c"), stage("b", "a"), stage("c", "b"), stage("d")])
    assert caught.value.path[0] == caught.value.path[-1]
    assert set(caught.value.path) == {"a", "b", "c"}


def test_a_stage_that_needs_itself_is_a_ring() -> None:
    """The shortest ring is one as well."""
    with pytest.raises(InvalidPipeline, match="ring: a -> a"):
        build("p", [stage("a", "a")])


def test_every_wrong_name_is_in_the_error() -> None:
    """Duplicates and needs that are not there are found together, and named."""
    with pytest.raises(InvalidPipeline) as caught:
        build("p", [stage("a"), stage("a"), stage("b", "x"), stage("c", "y")])
    assert caught.value.problems == (
        "stage 'a': there are 2 of that name",
        "stage 'b': needs 'x', which is no stage of the pipeline",
        "stage 'c': needs 'y', which is no stage of the pipeline",
    )


def test_a_pipeline_without_stages_is_refused() -> None:
    """There would be nothing to run."""
    with pytest.raises(InvalidPipeline, match="has no stages"):
        build("p", [])


def test_fifty_deep_is_built_and_fifty_one_is_not() -> None:
    """The bound is the last that is allowed, and the error names the longest path, from its first stage on."""
    assert build("p", chain(50)).depth == 50
    with pytest.raises(InvalidPipeline, match="the longest path has 51 stages, 50 is the most: s0 -> s1") as caught:
        build("p", [*chain(51), stage("aside")])
    assert caught.value.path == tuple(f"s{number}" for number in range(51))
    assert build("p", chain(51), max_depth=51).depth == 51


def test_the_decorator_leaves_functions_as_they_are() -> None:
    """A stage has the name of its function, and the function can still be called as one."""
    builder = Builder("ingest")

    @builder.stage()
    def fetch(job: Job) -> str:
        return "fetched"

    @builder.stage(name="store", needs="fetch", undo=nothing, deadline_seconds=3)
    def put(job: Job) -> str:
        return job["fetch"]  # type: ignore[no-any-return]

    builder.add(stage("last", "store"))
    pipeline = builder.build()
    assert pipeline.name == "ingest"
    assert [one.name for one in pipeline.stages] == ["fetch", "store", "last"]
    assert pipeline.stages[1].deadline_seconds == 3
    assert put(Job("t", "store", None, {"fetch": fetch(None)}, None)) == "fetched"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"name": ""}, "name is ''. Give a printable text of 1 to 100 bytes"),
        ({"name": "x" * 101}, "name is 'xxx"),
        ({"name": "a\nb"}, "name is 'a"),
        ({"name": 3}, "name is 3"),
        ({"run": 3}, "run is 3. Give a function of one argument, the job"),
        ({"undo": "no"}, "undo is 'no'. Give a function"),
        ({"capture": 3}, "capture is 3. Give a function"),
        ({"deadline_seconds": 0}, "deadline_seconds is 0. Give a number of seconds above 0, or None"),
        ({"undo_deadline_seconds": -1}, "undo_deadline_seconds is -1. Give a number of seconds above 0, or None"),
        ({"undo_retries": 1.5}, "undo_retries is 1.5. Give a whole number from 0 up"),
        ({"undo_retries": True}, "undo_retries is True"),
        ({"undo_retry_seconds": -1}, "undo_retry_seconds is -1. Give a number of seconds from 0 up"),
    ],
)
def test_a_stage_of_no_sense_is_refused(options: dict[str, Any], text: str) -> None:
    """The error names the option, the value, and what is allowed."""
    with pytest.raises(ConfigurationError) as caught:
        Stage(**{"name": "a", "run": nothing, **options})
    assert str(caught.value).startswith(text)


def test_a_pipeline_is_drawn() -> None:
    """Each stage is a node, with two borders where it can be undone; each need is an arrow; odd letters are escaped."""
    pipeline = build("p", [stage("fetch"), stage('a "b"', "fetch", undo=nothing)])
    assert pipeline.to_mermaid() == ('flowchart TD\n    s0["fetch"]\n    s1[["a #34;b#34;"]]\n    s0 --> s1\n')


@pytest.mark.parametrize("change", [lambda pipeline: setattr(pipeline, "name", "q"), lambda pipeline: pipeline[0]])
def test_a_pipeline_never_changes(change: Callable[[Any], object]) -> None:
    """It serves any number of transactions, so nobody can set anything on it."""
    pipeline = build("p", [stage("a")])
    with pytest.raises((AttributeError, TypeError)):
        change(pipeline)
    assert repr(pipeline) == "<Pipeline 'p' of 1 stages, 1 deep>"
