"""Within which bounds a process is kept: what is imported for that is imported where it is asked for."""

from __future__ import annotations

from ..accounting.process import ProcessMemory
from ..pressure.ceiling import Ceiling
from ..pressure.relief import Relief
from ..pressure.settings import MemorySettings
from .services import BufferTerms


def ceiling_of(settings: MemorySettings, own_bytes: int | None) -> Ceiling:
    """The ceiling of a host: its own, or that of its settings where they are in force."""
    if not settings.enabled:
        return Ceiling(own_bytes)
    own = settings.ceiling_bytes if own_bytes is None else own_bytes
    if not settings.follow_limits:
        return Ceiling(own)
    from ..limits import OutsideLimits

    return Ceiling(own, OutsideLimits().lowest)


def buffer_terms(settings: MemorySettings, ceiling: Ceiling, memory: ProcessMemory, relief: Relief) -> BufferTerms:
    """On which terms a host lends buffers."""
    if not settings.enabled:
        return BufferTerms()
    from ..pressure.surroundings import Surroundings

    return BufferTerms(
        pool_max_array_bytes=settings.pool_max_array_bytes,
        ceiling=lambda: ceiling.nbytes,
        process=Surroundings(memory, ceiling, relief),
    )
