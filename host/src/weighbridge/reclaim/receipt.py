"""The record that an unload returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import attrs

State: TypeAlias = Literal["unloaded", "stranded"]


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
    held_bytes: int
    """On the account before the unload."""
    traced_before_bytes: int | None
    traced_after_bytes: int | None
    resident_before_bytes: int
    resident_after_bytes: int
    objects_before: int
    objects_after: int
    reclaimed_bytes: int | None
    """Traced bytes that came back."""
    reclaimed_share: float | None
    """Of the traced bytes that the load had brought in."""
    modules_dropped: int
    modules_kept: tuple[str, ...]
    """Modules that it used and that stay: others use them, or they are dependencies that were not to go."""
    leases_revoked: Mapping[str, int]
    watched: int
    """How many modules, classes, functions and objects had to die."""
    survivors: tuple[Survivor, ...]
    failures: tuple[str, ...]
    """What raised on the way; every other step was taken all the same."""
    steps: tuple[Step, ...]
    also_unloaded: tuple[Receipt, ...] = ()
    """Receipts of the plugins that required this one and went first."""

    @property
    def reclaimed_resident_bytes(self) -> int:
        """By how much the process shrank."""
        return self.resident_before_bytes - self.resident_after_bytes
