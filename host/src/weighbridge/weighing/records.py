"""What weighing and checking a plugin comes to."""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

from ..reclaim.receipt import Survivor

Status: TypeAlias = Literal["ok", "failed", "crashed", "timeout"]


@attrs.frozen(kw_only=True)
class Weighing:
    """What one plugin weighed. Figures are None where it did not come that far."""

    name: str
    distribution: str
    version: str
    group: str
    status: Status
    import_seconds: float | None = None
    """Median over the rounds, without tracing."""
    traced_bytes: int | None = None
    """Python memory that its load brought in, dependencies included, the standard library's modules not."""
    stdlib_bytes: int | None = None
    resident_bytes: int | None = None
    """By how much the process grew, without tracing; median over the rounds."""
    modules: int | None = None
    reclaimed_bytes: int | None = None
    reclaimed_share: float | None = None
    survivors: tuple[Survivor, ...] = ()
    kept_modules: tuple[str, ...] = ()
    error: str | None = None


@attrs.frozen(kw_only=True)
class Finding:
    """One thing that a check looked at."""

    criterion: str
    passed: bool
    detail: str


@attrs.frozen(kw_only=True)
class Check:
    """The verdict on one plugin, with reasons."""

    name: str
    distribution: str
    version: str
    status: Status
    passed: bool
    findings: tuple[Finding, ...]
    error: str | None = None
    traceback: str | None = None
    """What the plugin raised while it was loaded, or what its interpreter wrote as it crashed."""
