"""How an instance in a store is reached: by names that wasmtime-py keeps private, or by its public ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import wasmtime

from .values import Signature, Value

Run: TypeAlias = Callable[[Sequence[Value]], Any]
"""Calls one function of one instance: gives None, one value or a tuple of them, or raises what ended the call."""

ENDLESS_FUEL = (1 << 64) - 1
"""Units of fuel that no call uses up: at a billion a second they last for centuries."""

ENDLESS_TICKS = 1 << 62
"""Ticks that no call lives to see; added to the engine's count they stay below 64 bits."""


class MemoryAccess(Protocol):
    """One linear memory of an instance."""

    def address(self) -> int:
        """Where it begins in this process. It may move when it grows."""

    def nbytes(self) -> int:
        """Its size in bytes now."""

    def grow(self, pages: int) -> bool:
        """Add so many of its own pages; false if a limit forbids it."""


class GlobalsAccess(Protocol):
    """Mutable globals of an instance, as their bits: unsigned, 128 of them for a ``v128``."""

    def get(self) -> tuple[int, ...]:
        """What they hold now."""

    def restore(self, before: tuple[int, ...]) -> None:
        """Set those that hold something else."""


class Access(Protocol):
    """One instance in one store.

    :ivar raised: what a host function raised in the call that runs, until that call raises it itself.
    :ivar is_spoiled: whether a call ended before its end, so that nobody knows what it left half done.
    """

    raised: BaseException | None
    is_spoiled: bool

    def instantiate(self, linked: wasmtime.InstancePre) -> None:
        """Make the instance, and run its start function.

        :raises WorkError: if that traps, or a limit forbids it.
        """

    def function(self, signature: Signature) -> Run:
        """Prepare calls to the export of that name and that type."""

    def memory(self, export: str) -> MemoryAccess:
        """The memory exported under this name."""

    def memory_of(self, caller: Any, export: str) -> MemoryAccess:
        """The same while the start function runs, when only what calls the host knows the memory.

        :param caller: what the host function was called with by the engine.
        """

    def globals(self, exports: Sequence[tuple[str, str]]) -> GlobalsAccess:
        """The globals exported under these names, each with its type in words."""

    def set_fuel(self, fuel: int) -> None:
        """Give it fuel, in place of what it had."""

    def fuel(self) -> int:
        """The fuel that it has left."""

    def set_deadline(self, ticks: int) -> None:
        """Stop what runs in it so many ticks of the engine from now."""
