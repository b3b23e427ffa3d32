"""What a driver is, and what it needs of an instance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Protocol

from ..catalogue import Module


class Guest(Protocol):
    """An instance of a module. Addresses and sizes are bytes of its linear memory."""

    def call(self, function: str, args: Sequence[int | float], /) -> Any:
        """What an exported function gives: None, one value, or a tuple of them."""

    def read(self, address: int, nbytes: int, /) -> bytes:
        """A part of its memory."""

    def write(self, address: int, data: bytes, /) -> None:
        """Change a part of its memory."""


class Driver(Protocol):
    """Feeds a module, and knows what is right."""

    @property
    def module(self) -> Module:
        """Which one it drives."""

    @property
    def functions(self) -> Mapping[str, Callable[..., Any]]:
        """What it imports, by ``<module>.<name>``; the same arguments always have the same result."""

    def input(self, random: Random) -> bytes:
        """Something to run it with, small enough for the memory that it begins with."""

    def run(self, guest: Guest, data: bytes) -> bytes:
        """What a pristine instance makes of `data`. The instance is not pristine afterwards."""

    def is_right(self, data: bytes, output: bytes) -> bool:
        """Whether `output` is what should come of `data`, by means other than the module's."""


def unsigned(value: int) -> int:
    """An address or a size: both come out of a call as signed numbers of 32 bits."""
    return value & 0xFFFF_FFFF


def words(data: bytes) -> tuple[int, ...]:
    """Numbers of 32 bits, as they lie in a module's memory."""
    return tuple(memoryview(data).cast("I"))
