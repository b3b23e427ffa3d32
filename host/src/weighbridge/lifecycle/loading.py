"""Loading: import under the meter, construct, register, activate; and all of it undone if one step fails."""

from __future__ import annotations

import gc
import importlib
import logging
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final

import attrs
from weighbridge_hookspecs import BudgetView, LoadFailed, ScalableSubsystem, WeighbridgeError

from ..accounting.account import LoadWeighing
from ..accounting.attribution import run_tagged
from ..accounting.imports import ImportRecorder
from ..accounting.meters import Meter, read, traced_bytes
from ..accounting.modules import ModuleBooks, own_package
from ..accounting.process import ProcessMemory, trim
from ..hooks import Hooks
from ..leases.capabilities import CapabilityRegistry, OwnedCapabilities
from ..leases.schedule import Scheduler
from ..reclaim.drop import drop_modules
from ..reclaim.threads import stop_threads, stray_threads
from ..reclaim.watch import namespaces
from .context import HostContext, frozen_settings
from .plugin import Plugin
from .states import State

_log: Final = logging.getLogger("weighbridge.lifecycle")


@attrs.define
class _Failure:
    """What a plugin raised, as text: the exception itself would keep the plugin's frames alive."""

    cause: str
    traceback: str


@attrs.define
class _Progress:
    step: str = "import"
    import_seconds: float = 0.0


@attrs.define
class Loader:
    """Brings admitted plugins in."""

    hooks: Hooks
    books: ModuleBooks
    meter: Meter
    memory: ProcessMemory
    scheduler: Scheduler
    capabilities: CapabilityRegistry
    settings: Mapping[str, Mapping[str, Any]]
    budget_of: Callable[[str], BudgetView]
    moved: Callable[[Plugin, State, str], None]
    stop_seconds: float

    def load(self, plugin: Plugin) -> None:
        """Load one plugin that was admitted.

        :raises LoadFailed: if a step failed; the process is then as it was before, but for what ``residue`` names.
        """
        plugin.renew()
        plugin.own = own_package(plugin.module)
        progress = _Progress()
        gc.collect()  # or older garbage that goes meanwhile would count in the plugin's favour
        resident = self.memory.resident_bytes()
        with self.meter.gate(), ImportRecorder() as recorder:
            start = read()
            try:
                failure = _attempt(lambda: run_tagged(plugin.name, lambda: self._take_steps(plugin, progress)))
            except BaseException:
                self._undo(plugin, recorder)
                raise
            if failure is None:
                gc.collect()
                end = read()
                self.books.enter(plugin.name, recorder.brought(), plugin.own)
            else:
                residue = self._undo(plugin, recorder)
        if failure is not None:
            raise _load_failed(plugin, progress.step, failure, residue)
        plugin.traced_since_load = traced_bytes() is not None
        if not plugin.traced_since_load and end.traced_bytes is not None:
            trim()  # the tracer's own tables are not the plugin's
        weighing = LoadWeighing(
            traced_bytes=None if end.traced_bytes is None else end.traced_bytes - (start.traced_bytes or 0),
            blocks=end.blocks - start.blocks,
            resident_bytes=self.memory.resident_bytes() - resident,
            import_seconds=progress.import_seconds,
            seconds=end.seconds - start.seconds,
        )
        plugin.weigh(weighing)

    def _take_steps(self, plugin: Plugin, progress: _Progress) -> None:
        began = time.perf_counter()
        found = _resolve(plugin)
        progress.import_seconds = time.perf_counter() - began
        if plugin.opaque:
            plugin.thing = found
            self.moved(plugin, State.LOADED, "")
            return
        progress.step = "construct"
        plugin.thing = self._construct(plugin, found)
        progress.step = "register"
        registration = self.hooks.register(plugin.name, plugin.thing)
        if registration.unknown:
            _log.warning("%s: no specification for %s", plugin.name, ", ".join(registration.unknown))
        self.moved(plugin, State.LOADED, "")
        progress.step = "activate"
        self._activate(plugin)

    def _construct(self, plugin: Plugin, found: Any) -> Any:
        if isinstance(found, ModuleType):
            return found
        if not callable(found):
            raise TypeError(f"{plugin.candidate.value} is neither a module nor callable, but {type(found).__name__}")
        thing = found(self._context(plugin))
        if thing is None:
            raise TypeError(f"{plugin.candidate.value} gave None; it has to give the plugin object")
        return thing

    def _context(self, plugin: Plugin) -> HostContext:
        return HostContext(
            plugin.name,
            leases=plugin.leases,
            charges=plugin.charges,
            tracked=plugin.tracked,
            settings=frozen_settings(self.settings.get(plugin.name, {})),
            scheduler=self.scheduler,
            capabilities=self.capabilities,
            budget=lambda: self.budget_of(plugin.name),
        )

    def _activate(self, plugin: Plugin) -> None:
        registry = OwnedCapabilities(self.capabilities, plugin.name, plugin.leases.lend)
        for hook, call in self.hooks.activation(plugin.name, registry):
            result = call()
            if hook != "weighbridge_scalable" or result is None:
                continue
            if not isinstance(result, ScalableSubsystem):
                raise TypeError(f"weighbridge_scalable gave {type(result).__name__}, which is no ScalableSubsystem")
            plugin.scalable = result

    def _undo(self, plugin: Plugin, recorder: ImportRecorder) -> tuple[str, ...]:
        """Take back everything that was done; what could not be taken back, in words."""
        self.hooks.unregister(plugin.name)
        revocation = plugin.leases.revoke()
        plugin.thing = plugin.scalable = None
        self.books.enter(plugin.name, recorder.brought(), plugin.own)
        spaces = namespaces(weight.name for weight, kind, _ in self.books.of(plugin.name) if kind == "own")
        strays = stray_threads(spaces, leased=self.scheduler.thread_idents() | {threading.get_ident()})
        running = stop_threads(strays, seconds=self.stop_seconds)
        departure = self.books.leave(plugin.name, dependencies=True)
        drop_modules(departure.dropped)
        gc.collect()
        return (
            *revocation.failures,
            *(f"thread {name!r} still runs" for name in running),
            *(f"the compiled module {name!r} stays" for name in departure.compiled),
        )


def _resolve(plugin: Plugin) -> Any:
    found: Any = importlib.import_module(plugin.module)
    for name in filter(None, plugin.attribute.split(".")):
        found = getattr(found, name)
    return found


def _attempt(call: Callable[[], None]) -> _Failure | None:
    """Call; what is raised comes back as text. ``SystemExit`` is a fault of the plugin, other exits pass."""
    try:
        call()
    except (Exception, SystemExit) as error:
        return _Failure(_said(error), traceback.format_exc())
    return None


def _said(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it called sys.exit({error.code!r})"
    if isinstance(error, WeighbridgeError):
        return error.message
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _load_failed(plugin: Plugin, step: str, failure: _Failure, residue: tuple[str, ...]) -> LoadFailed:
    doing = {"import": "importing", "construct": "constructing", "register": "registering", "activate": "activating"}
    left = f"; could not be undone: {'; '.join(residue)}" if residue else ""
    return LoadFailed(
        f"{doing[step]} {plugin.candidate.value} failed: {failure.cause}{left}",
        plugin=plugin.name,
        step=step,
        cause=failure.cause,
        traceback=failure.traceback,
        residue=residue,
    )
