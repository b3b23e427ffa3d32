"""Making room: who is asked to release memory, and what really came of it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping

import attrs
from weighbridge_hookspecs import Event, ReleaseRequest

from .accounting.process import ProcessMemory, trim
from .hooks import Hooks


@attrs.frozen(kw_only=True)
class Reaction:
    """One attempt to make room."""

    wanted_bytes: int
    believed_bytes: Mapping[str, int]
    """What each plugin that was asked believes it released."""
    resident_before_bytes: int
    resident_after_bytes: int


@attrs.define
class Pressure:
    """Asks for memory back, cheapest means first.

    :ivar held: bytes on each account; the biggest is asked first.
    :ivar shortfall: how much is still missing for a need.
    """

    hooks: Hooks
    memory: ProcessMemory
    held: Callable[[], Mapping[str, int]]
    shortfall: Callable[[int], int]
    last: Reaction | None = None

    def make_room(self, needs_bytes: int) -> None:
        """Collect garbage, then ask one plugin after another, until `needs_bytes` fit or nobody is left to ask."""
        before = self.memory.resident_bytes()
        wanted = self.shortfall(needs_bytes)
        believed: dict[str, int] = {}
        gc.collect()
        trim()
        held = self.held()
        for name in sorted(held, key=lambda name: (-held[name], name)):
            missing = self.shortfall(needs_bytes)
            if not missing:
                break
            believed[name] = self.hooks.release_memory(name, ReleaseRequest(bytes=missing, level="elevated"))
            if believed[name]:
                gc.collect()
                trim()
        after = self.memory.resident_bytes()
        self.last = Reaction(
            wanted_bytes=wanted,
            believed_bytes=believed,
            resident_before_bytes=before,
            resident_after_bytes=after,
        )
        self.hooks.event(Event(kind="release", bytes=before - after, reason=f"{needs_bytes} bytes were needed"))
