"""The process as the ceiling of buffers sees it."""

from __future__ import annotations

import attrs

from ..accounting.process import ProcessMemory, trim
from .allocator import keep_one_arena
from .ceiling import Ceiling
from .relief import Relief


@attrs.frozen
class Surroundings:
    """A ``Process`` of :mod:`weighbridge.leases.buffer_ceiling`: what rents is under the ceiling of them all."""

    memory: ProcessMemory
    ceiling: Ceiling
    relief: Relief

    def __attrs_post_init__(self) -> None:
        keep_one_arena()  # or what threads have freed could not be handed back

    def usage_bytes(self) -> int:
        """Resident bytes of the process."""
        return self.memory.resident_bytes()

    def hand_back(self) -> object:
        """Let the C library give free memory back."""
        return trim()

    def make_room(self, nbytes: int, owner: str | None) -> object:
        """Ask every plugin but `owner` for memory, until `nbytes` more fit."""

        def missing() -> int:
            ceiling = self.ceiling.nbytes
            return 0 if ceiling is None else max(0, self.usage_bytes() + nbytes - ceiling)

        return self.relief.make_room("buffer", missing, owner=owner)
