"""WASM: WebAssembly modules, each call isolated, at the speed of a warm instance."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from weighbridge_hookspecs import (
    Capabilities,
    ConfigurationError,
    Event,
    Fact,
    PluginContext,
    ReleaseRequest,
    ScalableSubsystem,
    ServiceUnavailable,
    Terminal,
    hookimpl,
)

from .compiled import default_folder
from .config import ModuleConfig, ScalingSettings, read_settings
from .failures import Exited
from .figures import figures
from .functions import Caller, HostFunction
from .report import Reports
from .scaling import WasmScaling
from .session import Session
from .state import StateSlots
from .statistics import ModuleStatistics, WasmStatistics
from .wasi import WasiGrants

__version__ = "0.1.0"
__all__ = [
    "Caller",
    "Exited",
    "HostFunction",
    "ModuleConfig",
    "ModuleStatistics",
    "ScalingSettings",
    "Session",
    "WasiGrants",
    "Wasm",
    "WasmScaling",
    "WasmStatistics",
]

_GOING = frozenset({"draining", "failed", "stranded", "unloaded"})


class Wasm:
    """The plugin. Its settings are those of :class:`.ScalingSettings`."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        self._settings = read_settings(context.settings)
        self._scaling = WasmScaling(context, self._settings)
        self._reports: Reports | None = None
        self._has_complained = False

    @hookimpl
    def weighbridge_capabilities(self, registry: Capabilities) -> None:
        """Offer to run modules."""
        found = self._scaling.statistics()
        evidence = f"wasmtime compiles and runs modules; memory is reset by {found.reset_strategy}"
        details = {"reset": f"{found.reset_strategy}: {found.reset_evidence}"}
        registry.register("wasm", self._scaling, evidence=evidence, details=details)

    @hookimpl
    def weighbridge_activate(self) -> None:
        """Begin to end calls at their deadline, and to follow the load."""
        with suppress(ConfigurationError, OSError):  # without it `weighbridge wasm stats` knows less, that is all
            self._reports = Reports(self._folder())
        self._context.spawn(self._scaling.engine.run_ticker, name="ticker")
        self._context.every(self._settings.interval_seconds, self._tick, name="load")

    @hookimpl
    def weighbridge_deactivate(self, reason: str) -> None:
        """Suspend what is to be kept, and close every instance and the engine."""
        try:
            if self._reports is not None:
                self._reports.close()
        finally:
            self._scaling.close()

    @hookimpl
    def weighbridge_scalable(self) -> ScalableSubsystem:
        """The part that follows the load."""
        return self._scaling

    @hookimpl
    def weighbridge_report_memory(self) -> int:
        """What instances and machine code occupy."""
        return self._scaling.resident_bytes()

    @hookimpl
    def weighbridge_release_memory(self, request: ReleaseRequest) -> int:
        """Close idle instances, and suspend states that nobody uses."""
        return self._scaling.trim(request.bytes)

    @hookimpl
    def weighbridge_event(self, event: Event) -> None:
        """Let go of the modules of a plugin that leaves, and with them of its functions."""
        if event.kind == "state" and event.state in _GOING and event.plugin not in (None, self._context.name):
            self._scaling.unregister_of(event.plugin)

    @hookimpl
    def weighbridge_examine(self) -> Sequence[Fact]:
        """Say how memory of instances is reset on this machine."""
        found = self._scaling.statistics()
        return [
            Fact(subject="wasm reset", finding=found.reset_strategy, evidence=found.reset_evidence),
            Fact(
                subject="wasm concurrency",
                finding=f"{found.concurrency.floor} to {found.concurrency.ceiling} calls at once",
                evidence=f"{found.concurrency.cores} cores: {found.concurrency.cores_source}",
            ),
        ]

    @hookimpl
    def weighbridge_command(self, arguments: Sequence[str], terminal: Terminal) -> int:
        """Run a module, or show statistics."""
        from .command import run  # click comes with it

        return run(self._scaling, arguments, terminal, states=self._states(), reports=self._reports)

    def _tick(self) -> None:
        self._scaling.tick()
        if self._reports is not None:
            try:
                self._reports.write(figures(self._scaling.statistics()))
            except OSError as error:
                if not self._has_complained:
                    self._has_complained = True
                    self._context.log.warning("figures for weighbridge wasm stats cannot be written: %s", error)

    def _folder(self) -> Path:
        """Beside the compiled modules, and not among them."""
        folder = self._settings.cache_folder
        return (default_folder() if folder is None else Path(folder)).with_name("running-wasm")

    def _states(self) -> StateSlots | None:
        with suppress(ServiceUnavailable):
            return StateSlots(self._context.store)
        return None
