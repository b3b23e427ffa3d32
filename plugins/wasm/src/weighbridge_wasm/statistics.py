"""What WASM scaling says of itself."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from weighbridge_hookspecs import GateStatistics

from .compiled import CacheStatistics
from .concurrency import ConcurrencyStatistics
from .config import ModuleConfig
from .pool import PoolStatistics


@attrs.frozen(kw_only=True)
class ModuleStatistics:
    """How one module stands.

    ``uses == completed + sum(failed.values()) + in_use``.
    """

    module_id: str
    sha256: str
    """Of the module as it was registered, in hexadecimal."""
    owner: str | None
    """The plugin that registered it, as it said; None: nobody said so."""
    config: ModuleConfig
    """In force now."""
    obstacles: tuple[str, ...]
    """Why each use gets a fresh instance, in words; empty where instances are reset in place."""
    uses: int
    """Calls and sessions that got an instance, or failed to get one."""
    completed: int
    failed: Mapping[str, int]
    """Those that ended with an exception, by its class."""
    idle: int
    in_use: int
    resident_bytes: int
    """Of its instances, idle and in use, as last measured."""
    code_bytes: int | None
    """Machine code; None where the engine does not tell."""
    suspended_bytes: int | None
    """What is kept of its state in the store; None: nothing, or it keeps no state."""


@attrs.frozen(kw_only=True)
class WasmStatistics:
    """How all of it stands."""

    modules: Mapping[str, ModuleStatistics]
    pool: PoolStatistics
    gate: GateStatistics
    concurrency: ConcurrencyStatistics
    cache: CacheStatistics
    reset_strategy: str
    """How memory is reset here: ``"pagemap"``, ``"madvise"`` or ``"copy"``."""
    reset_evidence: str
    """How that is known, and why not by a better one."""
    is_private_access: bool
    """Whether calls take the short way through wasmtime-py; otherwise its public interface serves."""
    resident_bytes: int
    """Of all instances, as last measured."""
    code_bytes: int
    """Machine code of all modules."""
