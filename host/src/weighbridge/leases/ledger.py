"""The list of what was lent to one holder, and its return in reverse order."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import attrs


@attrs.frozen
class Extent:
    """How much one lease has lent by now."""

    count: int
    nbytes: int


class Lease:
    """One thing lent, with its undo. Releasing twice does nothing.

    :ivar extent: for what lends more as it is used, such as a pool of buffers: how much that is by now.
    """

    def __init__(
        self,
        kind: str,
        label: str,
        undo: Callable[[], object],
        forget: Callable[[Lease], None],
        extent: Callable[[], Extent] | None = None,
    ) -> None:
        self.kind: Final = kind
        self.label: Final = label
        self.extent = extent
        self._undo: Callable[[], object] | None = undo
        self._forget = forget

    def __repr__(self) -> str:
        return f"<Lease {self.kind} {self.label!r} {'released' if self._undo is None else 'held'}>"

    @property
    def count(self) -> int:
        """How many things it stands for."""
        return 1 if self.extent is None else self.extent().count

    def release(self) -> None:
        """Give it back; what the undo raises reaches the caller, and the lease is over all the same."""
        undo, self._undo, self.extent = self._undo, None, None  # either may hold what holds the lease
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
        self._measured: dict[Lease, Callable[[], Extent]] = {}
        # The collector may run a finalizer of the holder's, which leases, while the lock is held by the same thread.
        self._lock = threading.RLock()
        self._made = 0
        self._closed = False

    def lend(
        self, kind: str, label: str, undo: Callable[[], object], *, extent: Callable[[], Extent] | None = None
    ) -> Lease:
        """Write down one lease; `undo` takes the thing back and must stand being called from any thread.

        :param extent: tells how much it has lent by now; without it, it is one thing without a size.
        :raises RuntimeError: if everything was taken back already; `undo` has then been called.
        """
        lease = Lease(kind, label, undo, self._forget, extent)
        with self._lock:
            if not self._closed:
                self._leases[lease] = None
                if extent is not None:
                    self._measured[lease] = extent
                self._made += 1
                return lease
        lease.release()
        raise RuntimeError("the ledger is closed")

    def _forget(self, lease: Lease) -> None:
        with self._lock:
            self._leases.pop(lease, None)
            self._measured.pop(lease, None)

    def revoke(self) -> Revocation:
        """Take everything back, last lease first; a failing undo never stops the next. Then the ledger is closed."""
        revoked: Counter[str] = Counter()
        failures: list[str] = []
        while (lease := self._last()) is not None:
            revoked[lease.kind] += lease.count
            try:
                lease.release()
            except (Exception, SystemExit) as error:
                failures.append(f"{lease.kind} {lease.label!r}: {type(error).__name__}: {error}")
            except BaseException:  # Ctrl-C: the rest is taken back first
                self.revoke()
                raise
        return Revocation(revoked=MappingProxyType(dict(+revoked)), failures=tuple(failures))

    def _last(self) -> Lease | None:
        with self._lock:
            self._closed = not self._leases
            return next(reversed(self._leases), None)

    @property
    def is_closed(self) -> bool:
        """Whether everything was taken back."""
        return self._closed

    @property
    def nbytes(self) -> int:
        """Bytes lent by now, of those leases that have a size."""
        if not self._measured:  # every decision about a load asks every plugin
            return 0
        with self._lock:
            extents = list(self._measured.values())
        return sum(extent().nbytes for extent in extents)  # not under the lock: they have locks of their own

    def statistics(self) -> LedgerStatistics:
        """What is held now."""
        with self._lock:
            leases, made = list(self._leases), self._made
        held: Counter[str] = Counter()
        for lease in leases:
            held[lease.kind] += lease.count
        return LedgerStatistics(held=MappingProxyType(dict(+held)), made=made, returned=made - len(leases))
