"""The frozen records that hooks receive and return.

Sizes are bytes (``_bytes``), times are seconds (``_seconds``). ``None`` means "not known", never "none".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import attrs

Activation: TypeAlias = Literal["eager", "first-call"]
Unload: TypeAlias = Literal["clean", "restart", "never"]
EstimateSource: TypeAlias = Literal["hook", "weighed", "declared", "default"]
PressureLevel: TypeAlias = Literal["nominal", "elevated", "critical"]


@attrs.frozen(kw_only=True)
class Manifest:
    """What a plugin says about itself in ``weighbridge.toml``, read without importing it."""

    summary: str = ""
    api: int = 1
    requires: tuple[str, ...] = ()
    """Plugins that must be active first."""
    provides: tuple[str, ...] = ()
    """Capabilities that it registers."""
    after: tuple[str, ...] = ()
    """Plugins that come first if they are there at all."""
    conflicts: tuple[str, ...] = ()
    """Plugins that must not be active together with it."""
    hooks: tuple[str, ...] = ()
    """Hooks that it implements."""
    activation: Activation = "eager"
    unload: Unload = "clean"
    load_bytes: int | None = None
    """What loading and activating may take."""
    peak_bytes: int | None = None
    """What it may hold at most while it works."""


@attrs.frozen(kw_only=True)
class Candidate:
    """An entry point found by discovery. Nothing of it was imported."""

    name: str
    group: str
    value: str
    """The object reference, as in ``"package.module:attribute"``."""
    distribution: str
    version: str
    manifest: Manifest | None = None


@attrs.frozen(kw_only=True)
class AdmissionRequest:
    """A load that asks to be let in."""

    candidate: Candidate
    estimate_bytes: int
    """What loading is expected to take."""
    estimate_source: EstimateSource
    peak_bytes: int | None = None
    """What the plugin promised never to exceed; None where it promised nothing."""
    priority: int = 0
    """Order in the queue of deferred loads; higher goes first."""
    defer: bool = False
    """Queue the load instead of refusing it when there is no room."""
    dry_run: bool = False
    """Only asked, not meant: nothing will be loaded, whatever the answer."""
    usage_bytes: int | None = None
    ceiling_bytes: int | None = None
    headroom_bytes: int | None = None

    @property
    def needs_bytes(self) -> int:
        """Bytes that must fit under the ceiling: the estimate, or the promised peak where that is more."""
        return max(self.estimate_bytes, self.peak_bytes or 0)


@attrs.frozen(kw_only=True)
class Admitted:
    """The load may go on."""

    warnings: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Deferred:
    """The load has to wait until there is room."""

    reason: str
    warnings: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Refused:
    """The load may not happen.

    ``needs_bytes`` and ``headroom_bytes`` are None where memory was not the reason.
    """

    reason: str
    needs_bytes: int | None = None
    headroom_bytes: int | None = None
    advice: str | None = None
    warnings: tuple[str, ...] = ()


Verdict: TypeAlias = Admitted | Deferred | Refused


@attrs.frozen(kw_only=True)
class ReleaseRequest:
    """Memory is wanted back."""

    bytes: int
    """How much is needed; releasing more is welcome."""
    level: PressureLevel = "elevated"


@attrs.frozen(kw_only=True)
class Event:
    """Something happened to a plugin or to the host.

    ``kind`` is ``"state"`` (``state`` and ``previous`` say which), ``"refusal"``, ``"pressure"`` or ``"release"``.
    """

    kind: Literal["state", "refusal", "pressure", "release"]
    plugin: str | None = None
    state: str | None = None
    previous: str | None = None
    reason: str | None = None
    level: PressureLevel | None = None
    bytes: int | None = None


@attrs.frozen(kw_only=True)
class BudgetView:
    """What a plugin may still take, as it stood when the record was drawn."""

    load_bytes: int | None
    """Declared for loading."""
    peak_bytes: int | None
    """Declared at most."""
    held_bytes: int
    """On the plugin's account: measured at its load, plus what it leased since, charged and reported."""
    headroom_bytes: int | None
    """Left to the whole process; None where no ceiling is set."""


@attrs.frozen(kw_only=True)
class Capability:
    """A named ability of this process, with the evidence for it and its owner."""

    name: str
    owner: str
    evidence: str
    details: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Fact:
    """Something about this machine, and how it is known."""

    subject: str
    """What it is about, such as ``"hypervisor"``; the same words each time."""
    finding: str | None
    """What was found; None: it cannot be known."""
    evidence: str
    """Which file, register or call said so, or why nothing did."""


@attrs.frozen(kw_only=True)
class GateStatistics:
    """How a gate stands, and what became of those who came so far.

    ``entered == inside + left``, and whoever came is among the entered, the waiting, the rejected, the timed out, the
    interrupted and the sent away.
    """

    limit: int
    reserved: int
    """Of the limit, places for high and critical priority alone."""
    max_waiting: int
    inside: int
    waiting: int
    entered: int
    left: int
    rejected: int
    """Those who found the queue full, or gave up their place in it to a higher priority."""
    timed_out: int
    interrupted: int
    """Those whose wait ended with an exception, such as Ctrl-C."""
    sent_away: int
    """Those who were waiting when the gate was closed."""
    preempted: int
    """Calls of ``on_preempt``."""
    failures: int
    """Those of them that raised."""
    service_seconds: float | None
    """How long a place is held: the average of the last times, newer ones counting more; None until one has left."""


@attrs.frozen(kw_only=True)
class ScalingLimits:
    """Bounds of a scalable subsystem."""

    max_concurrent_operations: int
    max_waiting: int | None = None
    wait_seconds: float | None = None


@attrs.frozen(kw_only=True)
class ScalingMetrics:
    """What a scalable subsystem is doing now."""

    running: int
    waiting: int
    completed: int
    rejected: int
    utilization: float | None = None
    """Share of the limit in use, 0 to 1, smoothed; None until it is known."""


@attrs.frozen(kw_only=True)
class Backpressure:
    """Whether a scalable subsystem takes more work, and when to ask again if not."""

    accepting: bool
    retry_after_seconds: float | None = None
