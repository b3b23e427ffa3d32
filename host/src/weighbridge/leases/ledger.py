"""The list of what was lent to one holder, and its return in reverse order."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import attrs


class Lease:
    """One thing lent, with its undo. Releasing twice does nothing."""

    def __init__(self, kind: str, label: str, undo: Callable[[], object], forget: Callable[[Lease], None]) -> None:
        self.kind: Final = kind
        self.label: Final = label
        self._undo: Callable[[], object] | None = undo
        self._forget = forget

    def __repr__(self) -> str:
        return f"<Lease {self.kind} {self.label!r} {'released' if self._undo is None else 'held'}>"

    def release(self) -> None:
        """Give it back; what the undo raises reaches the caller, and the lease is over all the same."""
        undo, self._undo = self._undo, None
        self._forget(self)
        if undo is not None:
            undo()


@attrs.frozen(kw_only=True)
class LedgerStatistics:
    """How many leases are held, by kind, and how many were ever made and given back."""

    held: Mapping[str, int]
    made: int
    returned: int


@attrs.frozen(kw_only=True)
class Revocation:
    """What taking everything back came to: leases by kind, and one line for every undo that failed."""

    revoked: Mapping[str, int]
    failures: tuple[str, ...]


class LeaseLedger:
    """Every lease of one holder, in the order in which it was made."""

    def __init__(self) -> None:
        self._leases: dict[Lease, None] = {}
        self._lock = threading.Lock()
        self._made = 0
        self._closed = False

    def lend(self, kind: str, label: str, undo: Callable[[], object]) -> Lease:
        """Write down one lease; `undo` takes the thing back and must stand being called from any thread.

        :raises RuntimeError: if everything was taken back already; `undo` has then been called.
        """
        lease = Lease(kind, label, undo, self._forget)
        with self._lock:
            if not self._closed:
                self._leases[lease] = None
                self._made += 1
                return lease
        lease.release()
        raise RuntimeError("the ledger is closed")

    def _forget(self, lease: Lease) -> None:
        with self._lock:
            self._leases.pop(lease, None)

    def revoke(self) -> Revocation:
        """Take everything back, last lease first; a failing undo never stops the next. Then the ledger is closed."""
        revoked: Counter[str] = Counter()
        failures: list[str] = []
        while (lease := self._last()) is not None:
            revoked[lease.kind] += 1
            try:
                lease.release()
            except (Exception, SystemExit) as error:
                failures.append(f"{lease.kind} {lease.label!r}: {type(error).__name__}: {error}")
            except BaseException:  # Ctrl-C: the rest is taken back first
                self.revoke()
                raise
        return Revocation(revoked=MappingProxyType(dict(revoked)), failures=tuple(failures))

    def _last(self) -> Lease | None:
        with self._lock:
            self._closed = not self._leases
            return next(reversed(self._leases), None)

    @property
    def is_closed(self) -> bool:
        """Whether everything was taken back."""
        return self._closed

    def statistics(self) -> LedgerStatistics:
        """What is held now."""
        with self._lock:
            held = Counter(lease.kind for lease in self._leases)
            return LedgerStatistics(
                held=MappingProxyType(dict(held)), made=self._made, returned=self._made - held.total()
            )
