"""What an instance knows, put down: linear memory and globals, as bytes and back, and kept in the store."""

from __future__ import annotations

from .capture import capture, memory_at
from .slots import KEY_PREFIX, Kept, StateSlots
from .snapshot import SYSTEM_PAGE_BYTES, GlobalValue, Run, Snapshot

__all__ = [
    "KEY_PREFIX",
    "SYSTEM_PAGE_BYTES",
    "GlobalValue",
    "Kept",
    "Run",
    "Snapshot",
    "StateSlots",
    "capture",
    "memory_at",
]
