"""What every source of pressure gives."""

from __future__ import annotations

from typing import Protocol

import attrs
from weighbridge_hookspecs.records import PressureLevel


@attrs.frozen(kw_only=True)
class Pressure:
    """Memory is short, as one source says."""

    level: PressureLevel
    source: str
    """Which one: a file, a call."""
    evidence: str
    """What it said, with figures where it gives any."""


class SourceGone(Exception):
    """The source will say nothing any more: its control group was removed, its socket was closed."""


class Source(Protocol):
    """One source of pressure."""

    @property
    def name(self) -> str:
        """Which one: a file, a call."""

    def fileno(self) -> int | None:
        """What to wait for in ``poll``; None: it is looked at in passing."""

    @property
    def mask(self) -> int:
        """The events to wait for: ``select.POLLIN``, ``select.POLLPRI``."""

    def look(self, events: int) -> Pressure | None:
        """Say what the events mean; None: nothing.

        :raises SourceGone: if it will never say anything again.
        """

    def close(self) -> None:
        """Give back what it holds."""
