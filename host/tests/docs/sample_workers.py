"""A plugin for the pages: a part of it scales with load."""

from __future__ import annotations

from weighbridge_hookspecs import (
    Backpressure,
    PluginContext,
    ScalableSubsystem,
    ScalingLimits,
    ScalingMetrics,
    hookimpl,
)


# snippet: scalable
class Workers:
    """A pool that is full when `max_concurrent_operations` are running."""

    def __init__(self) -> None:
        self.limits = ScalingLimits(max_concurrent_operations=4)
        self._running = self._completed = self._rejected = 0

    def metrics(self) -> ScalingMetrics:
        return ScalingMetrics(running=self._running, waiting=0, completed=self._completed, rejected=self._rejected)

    def reconfigure(self, limits: ScalingLimits) -> None:
        self.limits = limits

    def backpressure(self) -> Backpressure:
        full = self._running >= self.limits.max_concurrent_operations
        return Backpressure(accepting=not full, retry_after_seconds=0.1 if full else None)


class Pool:
    def __init__(self, context: PluginContext) -> None:
        self._workers = Workers()

    @hookimpl
    def weighbridge_scalable(self) -> ScalableSubsystem:
        return self._workers


# end snippet
