"""Letting plugins in: the verdict carried out, and the queue of those that wait for room."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from weighbridge_hookspecs import (
    AdmissionDeferred,
    AdmissionRefused,
    AdmissionRequest,
    Admitted,
    Deferred,
    Event,
    Refused,
    Verdict,
)

from ..admission.gatekeeper import Gatekeeper
from ..hooks import Hooks, PolicyFailed
from .plugin import Plugin
from .states import State


@attrs.frozen
class _Waiting:
    """A load in the queue."""

    asked: int
    """Its priority as the caller gave it."""
    granted: int
    """The same after ``weighbridge_adjust``: its place."""


@attrs.define
class Doorkeeper:
    """Carries out what the gatekeeper decides.

    :ivar refusals: how many loads were refused so far.
    """

    gatekeeper: Gatekeeper
    hooks: Hooks
    moved: Callable[[Plugin, State, str], None]
    refusals: int = 0
    _queue: dict[str, _Waiting] = attrs.field(factory=dict, init=False)

    def judge(
        self, plugin: Plugin, *, priority: int, defer: bool, dry_run: bool
    ) -> tuple[AdmissionRequest | None, Verdict]:
        """The final request, None if it could not be made, and the verdict on it. Nothing is carried out."""
        try:
            request = self.gatekeeper.request(plugin.candidate, priority=priority, defer=defer, dry_run=dry_run)
        except PolicyFailed as error:
            advice = f"Mend or unload {error.plugin}"
            return None, Refused(reason=f"the policy {error.plugin!r} failed: {error.message}", advice=advice)
        if not dry_run:
            plugin.estimate_bytes = request.estimate_bytes
        return request, self.gatekeeper.decide(request)

    def admit(self, plugin: Plugin, *, priority: int, defer: bool) -> tuple[str, ...]:
        """Let the plugin in; the warnings of the policies.

        :raises AdmissionRefused, AdmissionDeferred: if it may not come in, or not now.
        """
        request, verdict = self.judge(plugin, priority=priority, defer=defer, dry_run=False)
        if isinstance(verdict, Admitted):
            self.moved(plugin, State.ADMITTED, "")
            return verdict.warnings
        if isinstance(verdict, Deferred) and request is not None:
            self.moved(plugin, State.DEFERRED, verdict.reason)
            # one that waits already keeps its place among those of the same priority
            self._queue[plugin.name] = _Waiting(asked=priority, granted=request.priority)
            raise AdmissionDeferred(
                f"deferred: {verdict.reason}",
                plugin=plugin.name,
                needs_bytes=request.needs_bytes,
                headroom_bytes=request.headroom_bytes,
                advice="It is tried again when another plugin is unloaded, and when memory pressure is over",
            )
        assert isinstance(verdict, Refused)
        raise self._refuse(plugin, verdict)

    def _refuse(self, plugin: Plugin, verdict: Refused) -> AdmissionRefused:
        self.forget(plugin.name)
        self.moved(plugin, State.REFUSED, verdict.reason)
        self.refusals += 1
        self.hooks.event(Event(kind="refusal", plugin=plugin.name, reason=verdict.reason, bytes=verdict.needs_bytes))
        return AdmissionRefused(
            f"refused: {verdict.reason}",
            plugin=plugin.name,
            needs_bytes=verdict.needs_bytes,
            headroom_bytes=verdict.headroom_bytes,
            advice=verdict.advice,
        )

    def waiting(self) -> list[tuple[str, int]]:
        """Names in the queue, each with the priority that was asked for; the next one first."""
        queue = sorted(self._queue.items(), key=lambda item: -item[1].granted)
        return [(name, waiting.asked) for name, waiting in queue]

    def is_waiting(self, name: str) -> bool:
        """Whether it is in the queue."""
        return name in self._queue

    def forget(self, name: str) -> None:
        """Take one out of the queue; fine if it is not in it."""
        self._queue.pop(name, None)

    def forget_all(self) -> None:
        """Empty the queue."""
        self._queue.clear()
