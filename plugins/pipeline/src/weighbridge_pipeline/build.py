"""From stages to a pipeline: every mistake in the graph is found here, before anything runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final, overload

from weighbridge_hookspecs import InvalidPipeline

from .contribution import Contribution, contribution_of
from .graph import Pipeline
from .stage import Run, Stage, is_async, senseless

MAX_DEPTH: Final = 50
"""How many stages the longest path may have, unless somebody says otherwise."""


def build(name: str, stages: Iterable[Stage], *, max_depth: int = MAX_DEPTH) -> Pipeline:
    """A pipeline of `stages`, in whatever order they come.

    :raises ConfigurationError: if `name` is no text.
    :raises InvalidPipeline: if there is no stage, two have one name, one needs what is not there, some need each other
        in a ring, or the longest path has more than `max_depth` stages. The error names all of them, and the path.
    """
    if not isinstance(name, str) or not name:
        raise senseless("the name of a pipeline", name, "Give a text")
    given = tuple(stages)
    _check_names(name, given)
    ordered = _in_order(name, given)
    places = {stage.name: place for place, stage in enumerate(ordered)}
    needs = tuple(tuple(dict.fromkeys(places[need] for need in stage.needs)) for stage in ordered)
    path = tuple(ordered[place].name for place in _longest_path(needs))
    if len(path) > max_depth:
        raise _too_deep(name, path, max_depth)
    return Pipeline(
        name=name,
        stages=ordered,
        needs=needs,
        needed_by=_reversed(needs),
        roots=tuple(place for place, wanted in enumerate(needs) if not wanted),
        longest_path=path,
        contributions=_contributions(ordered),
        runs_async=tuple(is_async(stage.run) for stage in ordered),
        undoes_async=tuple(is_async(stage.undo) for stage in ordered),
    )


class Builder:
    """Collects stages with a decorator::

    ingest = Builder("ingest")

    @ingest.stage()
    def fetch(job): ...

    @ingest.stage(needs="fetch", undo=drop)
    def load(job): ...

    pipeline = ingest.build()
    """

    def __init__(self, name: str, *, builder: Callable[[str, Sequence[Stage]], Pipeline] = build) -> None:
        self.name: Final = name
        self._stages: list[Stage] = []
        self._build = builder

    @overload
    def stage(self, run: Run, /) -> Run: ...

    @overload
    def stage(self, **options: Any) -> Callable[[Run], Run]: ...

    def stage(self, *bare: Any, **options: Any) -> Any:
        """Make a function a stage. It stays as it is; the name is its own, unless `options`, those of `Stage`, say so.

        :param bare: the function, where the decorator has no parentheses. Nothing else is taken by position.
        :raises ConfigurationError: if an option makes no sense.
        """
        if bare and (len(bare) > 1 or options or not callable(bare[0])):
            raise senseless("what @stage was given", bare[0], 'Give options by name, such as needs="fetch"')

        def add(run: Run) -> Run:
            self.add(Stage(run=run, **{"name": getattr(run, "__name__", None), **options}))
            return run

        return add(bare[0]) if bare else add

    def add(self, *stages: Stage) -> None:
        """Take stages that were made already, such as those of another plugin."""
        self._stages += stages

    def build(self) -> Pipeline:
        """The pipeline; see :func:`build`."""
        return self._build(self.name, self._stages)


def _check_names(name: str, stages: Sequence[Stage]) -> None:
    if not stages:
        raise InvalidPipeline(f"pipeline {name!r} has no stages", problems=("no stages",))
    counts = Counter(stage.name for stage in stages)
    problems = [f"stage {one!r}: there are {count} of that name" for one, count in counts.items() if count > 1]
    problems += [
        f"stage {stage.name!r}: needs {need!r}, which is no stage of the pipeline"
        for stage in stages
        for need in stage.needs
        if need not in counts
    ]
    if problems:
        raise InvalidPipeline(f"pipeline {name!r}: {'; '.join(problems)}", problems=tuple(problems))


def _in_order(name: str, stages: Sequence[Stage]) -> tuple[Stage, ...]:
    known = {stage.name: stage for stage in stages}
    sorter = TopologicalSorter({stage.name: stage.needs for stage in stages})
    try:
        return tuple(known[one] for one in sorter.static_order())
    except CycleError as error:
        ring = tuple(error.args[1])
    problem = f"these need each other in a ring: {' -> '.join(ring)}"
    raise InvalidPipeline(f"pipeline {name!r}: {problem}", problems=(problem,), path=ring)


def _longest_path(needs: Sequence[Sequence[int]]) -> list[int]:
    """Places along it, from the first stage on."""
    depths: list[int] = []
    for wanted in needs:
        depths.append(1 + max((depths[need] for need in wanted), default=0))
    place = max(range(len(depths)), key=depths.__getitem__)
    path = [place]
    while needs[place]:
        place = max(needs[place], key=depths.__getitem__)
        path.append(place)
    return path[::-1]


def _too_deep(name: str, path: tuple[str, ...], max_depth: int) -> InvalidPipeline:
    problem = f"the longest path has {len(path)} stages, {max_depth} is the most: {' -> '.join(path)}"
    return InvalidPipeline(
        f"pipeline {name!r}: {problem}",
        problems=(problem,),
        path=path,
        advice="Put stages side by side, or raise max_depth",
    )


def _reversed(needs: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    needed_by: list[list[int]] = [[] for _ in needs]
    for place, wanted in enumerate(needs):
        for need in wanted:
            needed_by[need].append(place)
    return tuple(map(tuple, needed_by))


def _contributions(stages: Iterable[Stage]) -> tuple[Contribution, ...]:
    functions = (function for stage in stages for function in (stage.run, stage.undo, stage.capture))
    found = (contribution_of(function) for function in functions)
    return tuple(dict.fromkeys(one for one in found if one is not None))
