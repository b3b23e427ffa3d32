"""Pipelines: graphs of stages, run as transactions that undo themselves.

As a plugin it registers the capability ``pipeline``, a :class:`PipelineScaling`::

    pipelines = context.capabilities["pipeline"]
    ingest = pipelines.build("ingest", [Stage(name="fetch", run=fetch), Stage(name="load", run=load, needs="fetch")])
    result = pipelines.run(ingest, inputs)
"""

from __future__ import annotations

from collections.abc import Sequence

from weighbridge_hookspecs import (
    Capabilities,
    Event,
    PluginContext,
    ReleaseRequest,
    ScalableSubsystem,
    ServiceUnavailable,
    StateRefused,
    StorageDamaged,
    Terminal,
    hookimpl,
)

from .build import Builder, build
from .cancel import CancelToken
from .contribution import Contribution
from .graph import Pipeline
from .recovery import OpenTransaction, Recovery
from .result import Progress, StageReport, TransactionFailed, TransactionResult, Transition
from .scaling import Handle, PipelineScaling
from .settings import PipelineSettings, read_settings
from .stage import Job, Stage, UndoJob
from .statistics import PipelineStatistics

__version__ = "0.1.0"

__all__ = [
    "Builder",
    "CancelToken",
    "Contribution",
    "Handle",
    "Job",
    "OpenTransaction",
    "Pipeline",
    "PipelineScaling",
    "PipelineSettings",
    "PipelineStatistics",
    "Pipelines",
    "Progress",
    "Recovery",
    "Stage",
    "StageReport",
    "TransactionFailed",
    "TransactionResult",
    "Transition",
    "UndoJob",
    "build",
]


class Pipelines:
    """The plugin. Settings: those of :class:`PipelineSettings`. It starts no thread before the first transaction."""

    def __init__(self, context: PluginContext) -> None:
        self._log = context.log
        self.scaling = context.track(PipelineScaling(read_settings(context.settings), context))

    @hookimpl
    def weighbridge_capabilities(self, registry: Capabilities) -> None:
        """Offer pipelines to others."""
        limits = self.scaling.limits
        registry.register(
            "pipeline",
            self.scaling,
            evidence=f"{limits.max_concurrent_operations} transactions at a time",
            details={"max_depth": str(self.scaling.max_depth)},
        )

    @hookimpl
    def weighbridge_activate(self) -> None:
        """Sweep captured state that a crash left in the store."""
        try:
            swept = self.scaling.sweep(keep=self.scaling.is_open)
        except ServiceUnavailable:
            return  # then nothing was spilled either
        except (StateRefused, StorageDamaged) as error:
            self._log.error("captured states are not swept: %s", error)
            return
        if swept:
            self._log.info("forgot %d captured states that a crash had left", swept)

    @hookimpl
    def weighbridge_deactivate(self, reason: str) -> None:
        """Call off what runs, wait until it is undone, and end every thread."""
        self.scaling.close()

    @hookimpl
    def weighbridge_scalable(self) -> ScalableSubsystem:
        """Transactions are what scales."""
        return self.scaling

    @hookimpl
    def weighbridge_report_memory(self) -> int:
        """Captured state: it came with the work, and not with the load."""
        return self.scaling.captured_bytes

    @hookimpl
    def weighbridge_release_memory(self, request: ReleaseRequest) -> int | None:
        """Captured state can wait in the store."""
        if not self.scaling.captured_bytes:
            return None
        return self.scaling.release_memory(request.bytes)

    @hookimpl
    def weighbridge_event(self, event: Event) -> None:
        """See off transactions with stages of a plugin that leaves."""
        if event.kind != "state" or event.plugin is None:
            return
        if event.state == "draining":
            self.scaling.plugin_leaves(event.plugin)
        elif event.state == "active":
            self.scaling.plugin_stays(event.plugin)
        elif event.state in ("unloaded", "stranded", "failed"):
            self.scaling.plugin_left(event.plugin)

    @hookimpl
    def weighbridge_command(self, arguments: Sequence[str], terminal: Terminal) -> int:
        """Show a pipeline, or run it."""
        from .command import run  # click comes with it

        return run(self.scaling, arguments, terminal)
