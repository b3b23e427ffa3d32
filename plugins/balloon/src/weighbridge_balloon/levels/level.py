"""What every place that knows of the balloon gives."""

from __future__ import annotations

from typing import Protocol

import attrs


@attrs.frozen(kw_only=True)
class Level:
    """The balloon at one moment, in bytes; None is unknown."""

    actual_bytes: int | None = None
    """What it holds."""
    wanted_bytes: int | None = None
    """What the hypervisor wants beyond that: target minus actual. Below 0 memory comes back."""


UNKNOWN = Level()


class LevelSource(Protocol):
    """One place that knows of the balloon."""

    @property
    def name(self) -> str:
        """The file, the library or the device, for people."""

    @property
    def sees_target(self) -> bool:
        """Whether it may say what is wanted."""

    def read(self) -> Level:
        """Look; what cannot be read is None."""

    def close(self) -> None:
        """Give back what it holds; the next read takes it again."""
