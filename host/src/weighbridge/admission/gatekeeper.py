"""The decision: estimate, adjust, weigh against the budget, ask the policies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

import attrs
from weighbridge_hookspecs import (
    AdmissionRequest,
    Admitted,
    Candidate,
    Deferred,
    Refused,
    Verdict,
)
from weighbridge_hookspecs.records import EstimateSource

from ..hooks import Hooks
from ..units import MIB, format_at_least, format_bytes
from .budget import Budget
from .weights import Weights

DEFAULT_ESTIMATE_BYTES: Final = 10 * MIB
"""For a plugin that declares nothing and was never weighed."""


class Refusal(Protocol):
    """Says why nobody may come in now."""

    def __call__(self, *, dry_run: bool) -> str | None:
        """None if somebody may; with `dry_run` nothing is done about it."""


def _open(*, dry_run: bool) -> str | None:
    return None


@attrs.define
class Gatekeeper:
    """Decides on loads. It knows plugins by name only.

    :ivar budget: reads the budget now; None where no ceiling is set.
    :ivar held: bytes on the account of each loaded plugin, for the advice.
    :ivar make_room: tries to bring about that many bytes of headroom.
    :ivar pressure: why nobody may come in now, in words, whatever the budget says; None if somebody may.
    """

    hooks: Hooks
    weights: Weights
    budget: Callable[[], Budget | None]
    held: Callable[[], Mapping[str, int]]
    make_room: Callable[[int], object]
    policy_seconds: float = 10.0
    pressure: Refusal = _open

    def request(self, candidate: Candidate, *, priority: int, defer: bool, dry_run: bool) -> AdmissionRequest:
        """The final request: estimated, and adjusted by whoever wants to.

        :raises PolicyFailed: if a plugin that was asked raised.
        """
        estimate, source = self._estimate(candidate)
        budget = self.budget()
        request = AdmissionRequest(
            candidate=candidate,
            estimate_bytes=estimate,
            estimate_source=source,
            peak_bytes=candidate.manifest.peak_bytes if candidate.manifest else None,
            priority=priority,
            defer=defer,
            dry_run=dry_run,
            usage_bytes=budget.usage_bytes if budget else None,
            ceiling_bytes=budget.ceiling_bytes if budget else None,
            headroom_bytes=budget.headroom_bytes if budget else None,
        )
        return self.hooks.adjust(request)

    def decide(self, request: AdmissionRequest) -> Verdict:
        """Judge a final request. Before a refusal for want of room, room is sought once."""
        verdict = self._weigh(request, _budget_of(request))
        if not isinstance(verdict, Admitted) and not request.dry_run:
            self.make_room(request.needs_bytes)
            verdict = self._weigh(request, self.budget())
        if isinstance(verdict, Admitted) and (reason := self.pressure(dry_run=request.dry_run)) is not None:
            verdict = self._turn_away(request, reason)
        if isinstance(verdict, Refused):
            return verdict
        policies = self.hooks.admit(request, timeout_seconds=self.policy_seconds)
        return _strictest([verdict, *policies])

    def _estimate(self, candidate: Candidate) -> tuple[int, EstimateSource]:
        if (known := self.hooks.estimate(candidate)) is not None:
            return known, "hook"
        if (weight := self.weights.get(candidate)) is not None:
            return weight.estimate_bytes, "weighed"
        if candidate.manifest is not None and candidate.manifest.load_bytes is not None:
            return candidate.manifest.load_bytes, "declared"
        return DEFAULT_ESTIMATE_BYTES, "default"

    def _weigh(self, request: AdmissionRequest, budget: Budget | None) -> Verdict:
        if budget is None or budget.admits(request.needs_bytes):
            return Admitted()
        if request.defer:
            return Deferred(reason=_no_room(request, budget))
        return Refused(
            reason=_no_room(request, budget),
            needs_bytes=request.needs_bytes,
            headroom_bytes=budget.headroom_bytes,
            advice=self._advice(request.needs_bytes, budget),
        )

    def _turn_away(self, request: AdmissionRequest, reason: str) -> Verdict:
        if request.defer:
            return Deferred(reason=reason)
        return Refused(
            reason=reason,
            needs_bytes=request.needs_bytes,
            headroom_bytes=request.headroom_bytes,
            advice="Unload what holds the most, raise the ceiling, or defer the load until the pressure is over",
        )

    def _advice(self, needs_bytes: int, budget: Budget) -> str:
        """What would make room: the smallest loaded plugin that is big enough, or the biggest first; or the ceiling."""
        shortfall = budget.shortfall_bytes(needs_bytes)
        ceiling = f"raise the ceiling to {format_at_least(budget.ceiling_bytes + shortfall)}"
        held = sorted(((size, name) for name, size in self.held().items() if size > 0), reverse=True)
        enough = [(size, name) for size, name in held if size >= shortfall][-1:]
        if not enough:
            total = 0
            for size, name in held:
                enough.append((size, name))
                total += size
                if total >= shortfall:
                    break
            else:
                return f"{ceiling[0].upper()}{ceiling[1:]}"
        names = " and ".join(f"{name} ({format_bytes(size)})" for size, name in enough)
        return f"Unload {names}, or {ceiling}"


def _budget_of(request: AdmissionRequest) -> Budget | None:
    """The budget as it stood when the request was made; nobody may change those fields."""
    if request.ceiling_bytes is None or request.usage_bytes is None or request.headroom_bytes is None:
        return None
    promised = request.ceiling_bytes - request.usage_bytes - request.headroom_bytes
    return Budget(ceiling_bytes=request.ceiling_bytes, usage_bytes=request.usage_bytes, promised_bytes=promised)


def _no_room(request: AdmissionRequest, budget: Budget) -> str:
    promised = f" and {format_bytes(budget.promised_bytes)} promised" if budget.promised_bytes else ""
    return (
        f"no room: it needs {format_bytes(request.needs_bytes)} ({_basis(request)}), and of the ceiling of "
        f"{format_bytes(budget.ceiling_bytes)} {format_bytes(budget.usage_bytes)} are in use{promised}"
    )


def _basis(request: AdmissionRequest) -> str:
    if request.needs_bytes > request.estimate_bytes:
        return "its declared peak"
    return {
        "hook": "estimated by a plugin",
        "weighed": "as it weighed last time",
        "declared": "its declared load",
        "default": "the default for a plugin that was never weighed",
    }[request.estimate_source]


def _strictest(verdicts: list[Verdict]) -> Verdict:
    """One refusal refuses; without one, one deferral defers. Warnings of all are kept."""
    warnings = tuple(warning for verdict in verdicts for warning in verdict.warnings)
    for kind in (Refused, Deferred):
        for verdict in verdicts:
            if isinstance(verdict, kind):
                return attrs.evolve(verdict, warnings=warnings)
    return Admitted(warnings=warnings)
