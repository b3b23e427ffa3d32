"""The record that an unload returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import attrs

from ..accounting.libraries import Library
from .ties.tie import Finding

State: TypeAlias = Literal["unloaded", "stranded"]
Verify: TypeAlias = Literal["none", "weakref", "full"]
"""How an unload proves that the plugin is gone: not at all; by weak references to everything that has to die, and one
collection; the same, and a search for what holds each survivor."""


@attrs.frozen(kw_only=True)
class Survivor:
    """One thing that outlived its plugin."""

    kind: str
    name: str
    tie: str
    """What keeps it alive, in words."""
    chain: tuple[str, ...]
    """From its holder to a root."""


@attrs.frozen(kw_only=True)
class Step:
    """One step of an unload."""

    name: str
    seconds: float
    failures: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Receipt:
    """What an unload came to. Traced bytes are None where tracing was not on from before the load until now."""

    plugin: str
    distribution: str
    version: str
    state: State
    reason: str
    verify: Verify
    """How it was proven; with ``"none"`` it was not, and nothing is known about survivors."""
    held_bytes: int
    """On the account before the unload."""
    traced_before_bytes: int | None
    traced_after_bytes: int | None
    resident_before_bytes: int
    resident_after_bytes: int
    objects_before: int
    objects_after: int
    expected_bytes: int | None
    """Traced bytes that had to come back: what the load brought in, less what rightly stays."""
    reclaimed_bytes: int | None
    """Traced bytes that came back."""
    reclaimed_share: float | None
    """Of those that had to."""
    stdlib_bytes: int | None
    """Traced bytes of modules of the standard library that its load brought in: they stay, and do not count."""
    immortal_bytes: int | None
    """Of what did not come back: names and texts in its code that the interpreter keeps until it ends."""
    modules_dropped: int
    modules_kept: tuple[str, ...]
    """Modules that it used and that stay: others use them, or they are dependencies that were not to go."""
    libraries_kept: tuple[Library, ...]
    """Shared libraries of its own and of dependencies that nobody else uses: Python never closes one."""
    leases_revoked: Mapping[str, int]
    watched: int
    """How many modules, classes, functions and objects had to die."""
    ties: tuple[Finding, ...]
    """What held something of it, and whether that was cut."""
    survivors: tuple[Survivor, ...]
    collections: int
    """Full collections that it took; each costs about 88 ms per million live objects (``docs/accounting.md``)."""
    failures: tuple[str, ...]
    """What raised on the way; every other step was taken all the same."""
    steps: tuple[Step, ...]
    also_unloaded: tuple[Receipt, ...] = ()
    """Receipts of the plugins that required this one and went first."""

    @property
    def reclaimed_resident_bytes(self) -> int:
        """By how much the process shrank."""
        return self.resident_before_bytes - self.resident_after_bytes
