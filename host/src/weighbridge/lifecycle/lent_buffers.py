"""A pool of buffers on a ledger; a module of its own, for a pool is imported by those alone who want one."""

from __future__ import annotations

import weakref

from ..leases.buffers import BufferPool
from ..leases.ledger import Extent
from ..reclaim.watch import Watched


def extent(pool: BufferPool) -> Extent:
    """How many buffers are rented, and the bytes of all that the pool holds."""
    return Extent(pool.statistics().rented, pool.held_bytes)


def take_back(pool: BufferPool, tracked: list[Watched]) -> None:
    """End every view. What a slice or an array still uses has to die with the plugin, or the receipt names it."""
    pool.close()
    tracked.extend(Watched("buffer", f"of {len(block)} bytes", weakref.ref(block)) for block in pool.remaining())
