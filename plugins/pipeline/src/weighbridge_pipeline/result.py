"""What became of a transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import attrs

from .capture import Captured

Fate: TypeAlias = Literal["not started", "running", "done", "failed", "cancelled", "undoing", "undone", "undo failed"]
Outcome: TypeAlias = Literal["done", "rolled back", "incomplete"]
TransitionKind: TypeAlias = Literal[
    "begun",
    "stage started",
    "captured",
    "stage done",
    "stage failed",
    "undo started",
    "undo done",
    "undo failed",
    "ended",
]


@attrs.frozen(kw_only=True)
class StageReport:
    """What became of one stage.

    ``fate``: ``"not started"``; ``"running"`` still, though nobody waits any more; ``"done"``; ``"failed"``: it raised;
    ``"cancelled"``: it ended early because it was told to; ``"undoing"`` still, or about to be; ``"undone"``; ``"undo
    failed"``. One that is done after a rollback has no undo.
    """

    name: str
    fate: Fate
    seconds: float | None = None
    """How long it ran; None if it did not, or runs still."""
    undo_seconds: float | None = None
    """How long the last attempt to undo it ran."""
    undo_attempts: int = 0
    error: str | None = None
    """Type and text of what it raised last."""


@attrs.frozen(kw_only=True)
class TransactionResult:
    """What became of a transaction. ``result["name"]`` is what a stage gave.

    There are the results of stages that no other one needs, and of those with ``keep``; others went when the last
    stage that needs them had ended.
    """

    transaction: str
    pipeline: str
    outcome: Outcome
    """``"done"``: all of it. ``"rolled back"``: all that has an undo is undone. ``"incomplete"``: not all."""
    stages: Mapping[str, StageReport]
    """Every stage, in the order of the pipeline."""
    results: Mapping[str, Any] = attrs.field(repr=False)
    seconds: float
    """From the beginning of the first stage to the end of the last stage or undo."""
    waited_seconds: float
    """In the queue, before that."""
    spilled_bytes: int = 0
    """Captured state that went to the store."""

    def __getitem__(self, stage: str) -> Any:
        return self.results[stage]

    def with_fate(self, *fates: Fate) -> tuple[str, ...]:
        """Names of the stages that had one of these fates."""
        return tuple(name for name, report in self.stages.items() if report.fate in fates)


class TransactionFailed(ExceptionGroup[Exception]):
    """A transaction did not come to its end, and was undone as far as that was possible.

    The errors are a ``StageFailed`` or ``UndoFailed`` for each stage that raised, which is its cause, and a
    ``DeadlineExceeded`` or ``Cancelled`` where that ended it, in the order in which they came.

    :ivar result: what became of every stage; None in what came out of a pickle.
    """

    result: TransactionResult | None = None

    @classmethod
    def of(cls, message: str, errors: Sequence[Exception], result: TransactionResult) -> TransactionFailed:
        """One with its result."""
        group = cls(message, errors)
        group.result = result
        return group

    def derive(self, errors: Sequence[Exception]) -> TransactionFailed:  # type: ignore[override]  # always of this class
        """What ``except*`` and ``split`` make of a part of it."""
        group = TransactionFailed(self.message, errors)
        group.result = self.result
        return group


@attrs.frozen(kw_only=True)
class Transition:
    """A step of a transaction, told before it takes effect to its observer, and after it to whoever shows progress."""

    kind: TransitionKind
    transaction: str
    pipeline: str
    stage: str | None = None
    attempt: int = 0
    """Of an undo, counted from 1."""
    captured: Captured | None = attrs.field(default=None, repr=False)
    """Of ``"captured"``: the copy that was made."""
    result: Any = attrs.field(default=None, repr=False)
    """Of ``"stage done"``: what the stage gave."""
    error: str | None = None
    """Type and text of what was raised."""
    outcome: Outcome | None = None
    """Of ``"ended"``."""


@attrs.frozen(kw_only=True)
class Progress:
    """How far a transaction has come."""

    kind: TransitionKind
    transaction: str
    pipeline: str
    stage: str | None
    finished: int
    """Stages that are done, and not undone."""
    total: int
