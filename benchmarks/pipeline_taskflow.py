"""TaskFlow, for the benchmark of pipelines: the same graphs, with an executor of the caller's.

Without one its engine makes and ends threads of its own, which takes a second for each run and says nothing about it.
Loading, compiling and preparing a flow are not timed either, for they can be done beforehand.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Final

from pipeline_graphs import Needs, Way, ends

IS_THERE: Final = importlib.util.find_spec("taskflow") is not None


class Stuck(Exception):
    """What the stage or the undo raises that is to fail."""


def way(needs: Needs, executor: Executor, *, fails: bool = False) -> Way:
    """A run of trivial tasks; with one more that fails, a run and a revert of all."""
    seconds = dict.fromkeys(needs, 0.0) if fails else None
    return Way(run, lambda: engine(needs, executor, seconds))


def engine(needs: Needs, executor: Executor, undo_seconds: dict[str, float] | None, stuck: str = "") -> Any:
    """One that is ready to run.

    :param undo_seconds: how long each revert sleeps; a last task fails then. None: all goes well.
    :param stuck: the task whose revert fails.
    """
    task = importlib.import_module("taskflow.task")
    flow = importlib.import_module("taskflow.patterns.graph_flow").Flow("flow")
    for name, wanted in needs.items():
        revert = _revert(0.0 if undo_seconds is None else undo_seconds[name], name == stuck)
        kind = type("Trivial", (task.Task,), {"execute": lambda self, **results: 1, "revert": revert})
        flow.add(kind(name=name, provides=f"r{name}", requires=[f"r{one}" for one in wanted]))
    if undo_seconds is not None:
        last = type("Last", (task.Task,), {"execute": _fail})
        flow.add(last(name="last", requires=[f"r{one}" for one in ends(needs)]))
    made = importlib.import_module("taskflow.engines").load(flow, engine="parallel", executor=executor)
    made.compile()
    made.prepare()
    made.validate()
    return made


def run(engine: Any) -> None:
    """To its end, good or bad."""
    try:
        engine.run()
    except Exception as error:
        if type(error) is not Stuck and type(error).__name__ != "WrappedFailure":
            raise


def reverted(engine: Any, names: list[str]) -> int:
    """How many of these were reverted."""
    return sum(engine.storage.get_atom_state(name) == "REVERTED" for name in names)


def _revert(seconds: float, fails: bool) -> Callable[..., None]:
    def revert(self: object, **facts: object) -> None:
        if seconds:
            time.sleep(seconds)
        if fails:
            raise Stuck

    return revert


def _fail(self: object, **results: object) -> None:
    raise Stuck
