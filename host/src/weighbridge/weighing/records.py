"""What weighing and checking a plugin comes to."""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

from ..reclaim.receipt import State, Survivor
from ..reclaim.ties.tie import Finding as Tied

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
class Explanation:
    """What keeps one plugin in memory, found by loading and unloading it."""

    name: str
    distribution: str
    version: str
    group: str
    status: Status
    state: State | None = None
    """What the unload came to; None where it did not come that far."""
    watched: int | None = None
    """How many modules, classes, functions and objects had to die."""
    survivors: tuple[Survivor, ...] = ()
    ties: tuple[Tied, ...] = ()
    """What held something of it, and whether that was cut."""
    kept_modules: tuple[str, ...] = ()
    """Modules that rightly stay, each with the reason."""
    failures: tuple[str, ...] = ()
    """What went wrong on the way out."""
    graph: str | None = None
    """The ways from roots to some of the survivors, in DOT; None if it was not asked for, or there is nothing to draw.

    https://graphviz.org/doc/info/lang.html
    """
    undrawn: str | None = None
    """What went wrong when the graph was made."""
    error: str | None = None
    traceback: str | None = None
    """What the plugin raised while it was loaded, or what its interpreter wrote as it crashed."""


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
