"""Loading: import under the meter, construct, register, activate; and all of it undone if one step fails."""

from __future__ import annotations

import gc
import importlib
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final

import attrs
from weighbridge_hookspecs import BudgetView, LoadFailed, ScalableSubsystem

from ..accounting.account import LoadWeighing
from ..accounting.attribution import run_tagged
from ..accounting.imports import ImportRecorder
from ..accounting.meters import Meter, read, traced_bytes
from ..accounting.modules import ModuleBooks, classify, own_package
from ..accounting.process import ProcessMemory, trim
from ..hooks import Hooks
from ..leases.capabilities import CapabilityRegistry, OwnedCapabilities
from ..leases.schedule import Scheduler
from ..reclaim.drop import drop_modules
from ..reclaim.threads import stack, stop_threads, stray_threads
from ..reclaim.watch import namespaces
from .context import HostContext, frozen_settings
from .plugin import Plugin
from .states import State
from .words import in_words

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
    threads_before: list[threading.Thread] = attrs.field(factory=threading.enumerate)


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
        progress, recorder = _Progress(), ImportRecorder()
        gc.collect()  # or older garbage that goes meanwhile would count in the plugin's favour
        try:
            failure = _attempt(lambda: self._weigh(plugin, progress, recorder))
        except BaseException:
            self._undo(plugin, progress, recorder)
            raise
        if failure is not None:
            raise _load_failed(plugin, progress.step, failure, self._undo(plugin, progress, recorder))

    def _weigh(self, plugin: Plugin, progress: _Progress, recorder: ImportRecorder) -> None:
        resident = self.memory.resident_bytes()
        with self.meter.gate(), recorder:
            start = read()
            run_tagged(plugin.name, lambda: self._take_steps(plugin, progress))
            progress.step = "account"
            gc.collect()
            end = read()
            self.books.enter(plugin.name, recorder.brought(), plugin.own)
        plugin.traced_since_load = traced_bytes() is not None
        if not plugin.traced_since_load and end.traced_bytes is not None:
            trim()  # the tracer's own tables are not the plugin's
        weighing = LoadWeighing(
            traced_bytes=_difference(start.traced_bytes, end.traced_bytes),
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
        # the stubs of a plugin that slept go only now: a call that comes meanwhile waits for it
        self.hooks.unregister(plugin.name)
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

    def _undo(self, plugin: Plugin, progress: _Progress, recorder: ImportRecorder) -> tuple[str, ...]:
        """Take back everything that was done; what could not be taken back, in words."""
        residue: list[str] = []
        for undo in (
            lambda: self.hooks.unregister(plugin.name),
            lambda: residue.extend(plugin.leases.revoke().failures),
            lambda: self._drop(plugin, progress, recorder, residue),
        ):
            failure = _attempt(undo)
            if failure is not None:
                residue.append(failure.cause)
        gc.collect()
        return tuple(residue)

    def _drop(self, plugin: Plugin, progress: _Progress, recorder: ImportRecorder, residue: list[str]) -> None:
        plugin.thing = plugin.scalable = None
        self.books.enter(plugin.name, recorder.brought(), plugin.own)
        own = namespaces(weight.name for weight, kind, _ in self.books.of(plugin.name) if kind == "own")
        strays = stray_threads(own | _abandoned(plugin.own), leased=self.scheduler.thread_idents())
        ours = [one for one in strays if not any(one is known for known in progress.threads_before)]
        residue.extend(f"thread {name!r} still runs" for name in stop_threads(ours, seconds=self.stop_seconds))
        departure = self.books.leave(plugin.name, dependencies=True)
        drop_modules(departure.dropped)
        residue.extend(f"the compiled module {name!r} stays" for name in departure.compiled)


def _difference(start: int | None, end: int | None) -> int | None:
    """What came on the scales; None if nobody looked, or if the plugin itself stopped or restarted the tracing."""
    if start is None or end is None or end < start:
        return None
    return end - start


def _abandoned(own: str) -> frozenset[int]:
    """Namespaces of modules that are not in ``sys.modules``, for their import failed, while their threads live on."""
    return frozenset(
        id(step.f_globals)
        for frame in sys._current_frames().values()
        for step in stack(frame)
        if isinstance(name := step.f_globals.get("__name__"), str) and classify(name, own) == "own"
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
        return _Failure(in_words(error), traceback.format_exc())
    return None


def _load_failed(plugin: Plugin, step: str, failure: _Failure, residue: tuple[str, ...]) -> LoadFailed:
    doing = {
        "import": "importing",
        "construct": "constructing",
        "register": "registering",
        "activate": "activating",
        "account": "accounting for",
    }
    left = f"; could not be undone: {'; '.join(residue)}" if residue else ""
    cause = failure.cause.removeprefix(f"{plugin.name}: ")
    return LoadFailed(
        f"{doing[step]} {plugin.candidate.value} failed: {cause}{left}",
        plugin=plugin.name,
        step=step,
        cause=cause,
        traceback=failure.traceback,
        residue=residue,
    )
