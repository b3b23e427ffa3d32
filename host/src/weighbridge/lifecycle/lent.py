"""Services of one plugin alone, whose end takes them off the ledger as well.

A plugin that gives something back early may make many of a kind in its life, and the ledger must not grow with them.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NoReturn

from weighbridge_hookspecs import Lease

from ..leases.cache import BoundedCache
from ..leases.charges import Charges
from ..leases.gate import ConcurrencyGate
from ..leases.ledger import Extent

if TYPE_CHECKING:
    from ..leases.secret import Secret


class LentCache(BoundedCache):
    """A cache that is on a ledger."""

    lease: Lease | None = None

    def extent(self) -> Extent:
        """One cache, and the bytes of what is in it."""
        return Extent(1, self.held_bytes)

    def close(self) -> None:
        """Drop every entry, and give the cache back. Closing twice does nothing."""
        if self.lease is not None:
            self.lease.release()

    release = close


class LentGate(ConcurrencyGate):
    """A gate that is on a ledger."""

    lease: Lease | None = None

    def close(self) -> None:
        """Send everybody away who waits or comes later, and give the gate back. Closing twice does nothing."""
        if self.lease is not None:
            self.lease.release()

    release = close


def wipe(secret: Secret, charges: Charges) -> None:
    """Wipe a secret, and take it off the account, whatever comes of the one or the other."""
    charges.add("secrets", -secret.nbytes)
    secret.release()


class LentSecret:
    """A secret that is on a ledger: it is kept until it is released, even if its handle is forgotten."""

    __slots__ = ("_lease", "_secret")

    def __init__(self, secret: Secret, lease: Lease) -> None:
        self._secret = secret
        self._lease = lease

    @property
    def nbytes(self) -> int:
        """How many bytes it has."""
        return self._secret.nbytes

    def view(self) -> AbstractContextManager[memoryview]:
        """The bytes, read-only, for as long as the ``with`` block lasts; errors as of the vault's own handles."""
        return self._secret.view()

    def release(self) -> None:
        """Wipe the bytes, at once, and give their place back. Releasing twice does nothing."""
        self._lease.release()

    def __repr__(self) -> str:
        return repr(self._secret)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        self._secret.__reduce_ex__(protocol)
