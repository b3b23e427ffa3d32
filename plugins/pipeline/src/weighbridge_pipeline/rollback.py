"""The order in which stages are undone: each behind all that needed it, and as many as possible side by side."""

from __future__ import annotations

from collections.abc import Sequence


class ReverseGraph:
    """Counts down, for each stage, those that needed it and are not settled: undone, or found to need no undo.

    A stage that still runs is not settled, so nothing that it needs is undone under its feet. Not thread-safe.

    :param live: for each stage, whether it was done or still runs when the rollback began.
    """

    __slots__ = ("_blockers", "_needs", "left")

    def __init__(
        self, needs: Sequence[Sequence[int]], needed_by: Sequence[Sequence[int]], live: Sequence[bool]
    ) -> None:
        self._needs = needs
        self._blockers = [
            sum(live[one] for one in above) if is_live else 0 for above, is_live in zip(needed_by, live, strict=True)
        ]
        self.left = sum(live)
        """Stages that are not settled."""

    def is_free(self, index: int) -> bool:
        """Whether all that needed it are settled."""
        return not self._blockers[index]

    def settle(self, index: int) -> list[int]:
        """One has come to its end; the stages that are free now."""
        self.left -= 1
        freed = []
        for need in self._needs[index]:
            self._blockers[need] -= 1
            if not self._blockers[need]:
                freed.append(need)
        return freed
