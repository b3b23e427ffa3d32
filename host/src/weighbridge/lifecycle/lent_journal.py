"""A journal on a ledger; a module of its own, for a journal is imported by those alone who want one."""

from __future__ import annotations

from weighbridge_hookspecs import Lease

from ..leases.journal import Journal


class LentJournal(Journal):
    """A journal whose end takes it off the ledger as well."""

    lease: Lease | None = None

    def close(self) -> None:
        """Write what is pending, and give the journal back. Closing twice does nothing."""
        if self.lease is not None:
            self.lease.release()

    release = close
