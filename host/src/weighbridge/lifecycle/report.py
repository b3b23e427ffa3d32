"""What loading several plugins came to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from ..pressure.relief import Reaction
from .services import ServiceStatistics

if TYPE_CHECKING:
    from ..pressure.monitor import MemoryStatistics


@attrs.frozen(kw_only=True)
class Outcome:
    """How it ended for one plugin."""

    name: str
    state: str
    reason: str = ""
    warnings: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class LoadReport:
    """How it ended for each plugin. One that failed never stops the others."""

    loaded: tuple[Outcome, ...] = ()
    dormant: tuple[Outcome, ...] = ()
    """Asleep until the first call of one of their hooks."""
    deferred: tuple[Outcome, ...] = ()
    refused: tuple[Outcome, ...] = ()
    failed: tuple[Outcome, ...] = ()
    """Failed while loading, or could not be tried: blocked, incompatible, unresolved."""


@attrs.frozen(kw_only=True)
class HostStatistics:
    """What a host has done so far."""

    states: Mapping[str, int]
    loads: int
    refusals: int
    failures: int
    unloads: int
    stranded: int
    hook_errors: Mapping[str, int]
    """Contained faults in hook calls, by plugin."""
    services: ServiceStatistics
    reactions: tuple[Reaction, ...]
    """The last attempts to make room, whatever for; the latest is at the end."""
    memory: MemoryStatistics | None
    """None: nobody keeps the process under its ceiling."""

    @property
    def last_reaction(self) -> Reaction | None:
        """The latest attempt to make room."""
        return self.reactions[-1] if self.reactions else None
