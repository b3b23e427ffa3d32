"""What the host may still take, at any moment."""

from __future__ import annotations

import attrs
from weighbridge_hookspecs import BudgetView

from ..accounting.process import ProcessMemory
from ..admission.budget import Budget
from ..pressure.ceiling import Ceiling
from .bookkeeping import Bookkeeper
from .roster import Roster


@attrs.define(eq=False)
class Treasurer:
    """Draws up the budget: measured, not remembered."""

    ceiling: Ceiling
    memory: ProcessMemory
    bookkeeper: Bookkeeper
    roster: Roster

    def budget(self) -> Budget | None:
        """The budget now; None where no ceiling is set."""
        ceiling = self.ceiling.nbytes
        if ceiling is None:
            return None
        return Budget(
            ceiling_bytes=ceiling,
            usage_bytes=self.memory.resident_bytes(),
            promised_bytes=self.bookkeeper.promised_bytes(),
        )

    def shortfall(self, needs_bytes: int) -> int:
        """How many bytes are missing for a need of `needs_bytes`; 0 if they fit."""
        budget = self.budget()
        return budget.shortfall_bytes(needs_bytes) if budget else 0

    def view(self, name: str) -> BudgetView:
        """What one plugin is shown of it."""
        plugin, budget = self.roster[name], self.budget()
        manifest = plugin.candidate.manifest
        return BudgetView(
            load_bytes=manifest.load_bytes if manifest else None,
            peak_bytes=manifest.peak_bytes if manifest else None,
            held_bytes=plugin.held_bytes,
            headroom_bytes=budget.headroom_bytes if budget else None,
        )
