"""What the journal says of one transaction, and what is to be done about it.

Entries may come twice, and those of stages side by side in any order: a long transaction is copied to the end of the
journal so that the beginning can go. So all that is kept of an entry is that it was there.
"""

from __future__ import annotations

import hashlib
import json
from typing import Final, Literal, TypeAlias

import attrs

from .graph import Pipeline
from .records import Entry, Value
from .result import Outcome

OnOpen: TypeAlias = Literal["rollback", "resume"]
_DIGEST_BYTES: Final = 16


def fingerprint_of(pipeline: Pipeline) -> str:
    """Of the names of the stages and what each needs: what recovery has to find again."""
    graph = {stage.name: sorted(set(stage.needs)) for stage in pipeline.stages}
    text = json.dumps(graph, sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).hexdigest()


@attrs.define(eq=False)
class History:
    """What was written of a transaction."""

    transaction: str
    pipeline: str = ""
    fingerprint: str = ""
    inputs: Value | None = None
    started: set[str] = attrs.field(factory=set)
    done: set[str] = attrs.field(factory=set)
    failed: dict[str, str] = attrs.field(factory=dict)
    undoing: set[str] = attrs.field(factory=set)
    undone: set[str] = attrs.field(factory=set)
    undo_failed: dict[str, str] = attrs.field(factory=dict)
    attempts: dict[str, int] = attrs.field(factory=dict)
    """Attempts to undo a stage that have failed."""
    results: dict[str, Value] = attrs.field(factory=dict)
    captured: dict[str, Value] = attrs.field(factory=dict)
    outcome: Outcome | None = None

    @property
    def has_turned_back(self) -> bool:
        """Whether it was being rolled back, or had to be."""
        return bool(self.failed or self.undoing or self.undone or self.undo_failed)

    def add(self, entry: Entry) -> None:
        """One more entry."""
        stage, error = entry.stage or "", entry.error or ""
        if entry.kind == "begun":
            self.pipeline, self.fingerprint = entry.pipeline or "", entry.fingerprint or ""
            self.inputs = entry.values.get("inputs")
        elif entry.kind == "stage started":
            self.started.add(stage)
        elif entry.kind == "stage done":
            self._add_done(stage, entry)
        elif entry.kind == "stage failed":
            self.failed[stage] = error
        elif entry.kind == "undo started":
            self.undoing.add(stage)
        elif entry.kind == "undo done":
            self.undone.add(stage)
        elif entry.kind == "undo failed":
            self.undo_failed[stage] = error
            self.attempts[stage] = max(self.attempts.get(stage, 0), entry.attempt)
        elif entry.kind == "ended":
            self.outcome = entry.outcome

    def _add_done(self, stage: str, entry: Entry) -> None:
        self.done.add(stage)
        if "captured" in entry.values:
            self.captured[stage] = entry.values["captured"]
        value = entry.values.get("result", entry.values.get("captured"))  # one copy serves both where they are equal
        if value is not None:
            self.results[stage] = value


@attrs.frozen(kw_only=True)
class Plan:
    """What to do about an open transaction; stages by their place in the pipeline.

    :ivar goes_on: whether it is brought to its end, or rolled back.
    :ivar again: stages that may have had their effect, and whose end is not known: they are run again, with the same
        key, before anything else. Nobody has the state that their undo needs; and a stage that fails elsewhere would
        keep them from being begun, or have them told to end.
    """

    goes_on: bool
    done: frozenset[int]
    again: tuple[int, ...]
    undone: frozenset[int]
    given_up: frozenset[int]
    """Those whose undo failed for good, or did not end in time: stages that they needed were undone already."""


def plan(history: History, pipeline: Pipeline, on_open: OnOpen) -> Plan:
    """What to do. A transaction of which every stage is done has come to its end, whatever `on_open` says."""
    places = {stage.name: place for place, stage in enumerate(pipeline.stages)}
    done = frozenset(places[name] for name in history.done)
    undone = frozenset(places[name] for name in history.undone)
    goes_on = not history.has_turned_back and (on_open == "resume" or len(done) == len(pipeline))
    settled = _settled(history, pipeline)
    given_up = frozenset(place for place in settled & done - undone if pipeline.stages[place].undo is not None)
    again = _again(history, pipeline, done | settled)
    return Plan(goes_on=goes_on, done=done - undone - given_up, again=again, undone=undone, given_up=given_up)


def _settled(history: History, pipeline: Pipeline) -> frozenset[int]:
    """Those for which nothing more could be done: all that needed a stage, directly or not, before its undo began."""
    settled: set[int] = set()
    for place, stage in enumerate(pipeline.stages):
        names = (pipeline.stages[need].name for need in pipeline.needs[place])
        is_behind = not settled.isdisjoint(pipeline.needs[place]) or any(name in history.undoing for name in names)
        if is_behind or history.attempts.get(stage.name, 0) > stage.undo_retries:
            settled.add(place)
    return frozenset(settled)


def _again(history: History, pipeline: Pipeline, ended: frozenset[int]) -> tuple[int, ...]:
    """Those under way that have an undo, with what they need; in the order of the pipeline.

    Where the end of a stage went with the process although a stage that needs it had begun, it is run again as well.
    """
    again: set[int] = set()
    for place in reversed(range(len(pipeline))):
        stage = pipeline.stages[place]
        if place in ended or stage.name in history.failed:
            continue
        is_in_doubt = stage.name in history.started and stage.undo is not None
        if is_in_doubt or any(other in again for other in pipeline.needed_by[place]):
            again.add(place)
    return tuple(sorted(again))
