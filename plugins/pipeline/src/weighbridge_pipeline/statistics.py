"""Figures of all transactions together."""

from __future__ import annotations

import math
import threading
import time
from typing import Final

import attrs

from .result import TransactionResult

_SECONDS: Final = 10.0
"""Time constant of the share of the limit in use: what was so many seconds ago counts for a third."""
_WEIGHT: Final = 1 / 8
"""What one more transaction counts in the average time: https://www.rfc-editor.org/rfc/rfc6298#section-2"""


@attrs.frozen(kw_only=True)
class PipelineStatistics:
    """What the transactions came to so far.

    Who began is, when all have ended, among the done and the failed.
    """

    begun: int
    running: int
    """Places that are taken."""
    waiting: int
    rejected: int
    """Those that got no place."""
    done: int
    failed: int
    """Those that did not come to their end, whatever came of the rollback."""
    incomplete: int
    """Of these, those of which something is left, or was when their caller stopped waiting."""
    stages_done: int
    """Stages that came to their end, undone or not."""
    stages_undone: int
    undos_failed: int
    spilled_bytes: int
    """Captured state that went to the store."""
    captured_bytes: int
    """Captured state that is in memory now."""
    progress_failures: int
    """Calls of ``progress`` that raised."""
    clean_up_failures: int
    """Transactions whose observer or store raised when they had ended."""
    transaction_seconds: float | None
    """How long one runs: the average of the last ones, newer ones counting more; None until one has ended."""


class Tally:
    """Counts. Thread-safe."""

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(_COUNTED, 0)
        self._seconds: float | None = None
        self._limit = limit
        self._share: float | None = None
        self._looked = 0.0

    @property
    def running(self) -> int:
        """Transactions that run."""
        return self._counts["running"]

    @property
    def waiting(self) -> int:
        """Transactions that wait."""
        return self._counts["waiting"]

    @property
    def transaction_seconds(self) -> float | None:
        """How long one runs."""
        return self._seconds

    def add(self, **changes: int) -> None:
        """Change counts, all at one moment."""
        with self._lock:
            self._smooth()
            for name, change in changes.items():
                self._counts[name] += change

    def resize(self, limit: int) -> None:
        """The limit by which `utilization` goes."""
        with self._lock:
            self._smooth()
            self._limit = limit

    def utilization(self) -> float | None:
        """Share of the limit in use, 0 to 1, smoothed; None until something has run."""
        with self._lock:
            self._smooth()
            return self._share

    def ended(self, result: TransactionResult, progress_failures: int) -> None:
        """A transaction has a result."""
        fates = [report.fate for report in result.stages.values()]
        undone = fates.count("undone")
        undos_failed = fates.count("undo failed")
        seconds = result.seconds
        with self._lock:
            self._seconds = seconds if self._seconds is None else self._seconds + (seconds - self._seconds) * _WEIGHT
        self.add(
            done=result.outcome == "done",
            failed=result.outcome != "done",
            incomplete=result.outcome == "incomplete",
            stages_done=fates.count("done") + undone + undos_failed + fates.count("undoing"),
            stages_undone=undone,
            undos_failed=undos_failed,
            spilled_bytes=result.spilled_bytes,
            progress_failures=progress_failures,
        )

    def statistics(self, captured_bytes: int) -> PipelineStatistics:
        """All of one moment."""
        with self._lock:
            return PipelineStatistics(captured_bytes=captured_bytes, transaction_seconds=self._seconds, **self._counts)

    def _smooth(self) -> None:
        """Move the share towards what was in use since the last look. With the lock held."""
        now, running = time.monotonic(), self._counts["running"]
        share = min(running / self._limit, 1.0)
        if self._share is not None:
            self._share += (share - self._share) * (1 - math.exp(-(now - self._looked) / _SECONDS))
        elif running:
            self._share = share
        self._looked = now


_COUNTED: Final = tuple(
    field.name
    for field in attrs.fields(PipelineStatistics)
    if field.name not in ("captured_bytes", "transaction_seconds")
)
