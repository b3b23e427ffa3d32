"""Loading: import under the meter, construct, register, activate; and all of it undone if one step fails."""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.machinery
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, Final

import attrs
from weighbridge_hookspecs import BudgetView, LoadFailed, ScalableSubsystem
from weighbridge_hookspecs.records import PressureLevel

from ..accounting.account import LoadWeighing
from ..accounting.attribution import run_tagged
from ..accounting.compiled import is_extension
from ..accounting.imports import ImportRecorder, ModuleWeight
from ..accounting.meters import Meter, read, traced_bytes
from ..accounting.modules import ModuleBooks
from ..accounting.ownership import Ownership, classify, own_package
from ..accounting.process import ProcessMemory, can_trim, trim
from ..accounting.tasks import Tasks
from ..discovery.contents import Shelf
from ..discovery.metadata import normalize
from ..hooks import Hooks
from ..leases.capabilities import CapabilityRegistry, OwnedCapabilities
from ..reclaim.belongings import Belongings
from ..reclaim.drop import drop_modules
from ..reclaim.snapshot import Differences, Snapshot
from ..reclaim.threads import stack, stop_threads, stray_threads
from ..reclaim.watch import namespaces
from .context import HostContext, frozen_settings
from .plugin import Plugin
from .services import Services
from .states import State
from .words import in_words

_log: Final = logging.getLogger("weighbridge.lifecycle")
# the parent of the plugins' loggers: the first plugin would be charged for its place in the tree
logging.getLogger("weighbridge.plugins")


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
    snapshot: Snapshot | None = None
    """Of the standard library, from before the load; dropped as soon as it was compared."""
    tasks_before: Tasks = attrs.field(factory=Tasks.now)

    def differences(self) -> Differences | None:
        """What the load has changed in the standard library, by the snapshot, which goes."""
        snapshot, self.snapshot = self.snapshot, None
        return snapshot.differences() if snapshot is not None else None


@attrs.define
class Loader:
    """Brings admitted plugins in."""

    hooks: Hooks
    books: ModuleBooks
    meter: Meter
    memory: ProcessMemory
    services: Services
    capabilities: CapabilityRegistry
    settings: Mapping[str, Mapping[str, Any]]
    budget_of: Callable[[str], BudgetView]
    relieve: Callable[[int, PressureLevel, str], int]
    moved: Callable[[Plugin, State, str], None]
    stop_seconds: float
    _libraries: dict[str, tuple[str, str]] = attrs.field(factory=dict, init=False)
    """Distribution to its version, and a compiled module of its own that a load has brought in."""

    def remnant(self, plugin: Plugin) -> tuple[str, str] | None:
        """Version and module of another version of the plugin's distribution, which this one would meet.

        That is a module that cannot go; but also the library of a compiled one that has gone. Python never closes it,
        and the system's loader gives it out again under its file name, although another file lies there by now:
        https://man7.org/linux/man-pages/man3/dlopen.3.html
        """
        candidate = plugin.candidate
        left = [(plugin.loaded_version, name) for name in plugin.permanent if name in sys.modules]
        library = self._libraries.get(normalize(candidate.distribution))
        every = [*left, library] if library is not None else left
        return next((one for one in every if one[0] != candidate.version), None)

    def load(self, plugin: Plugin) -> None:
        """Load one plugin that was admitted.

        :raises LoadFailed: if a step failed; the process is then as it was before, but for what ``residue`` names.
        """
        plugin.renew()
        plugin.own = own_package(plugin.module)
        _look_at_folders()
        can_trim()  # it imports something the first time
        progress, recorder = _Progress(snapshot=Snapshot.take()), ImportRecorder()
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
        with self.meter.gate():
            with recorder:
                start = read()
                run_tagged(plugin.name, lambda: self._take_steps(plugin, progress))
            progress.step = "account"
            gc.collect()
            end = read()
            plugin.patches = progress.differences() or plugin.patches
            self._enter(plugin, progress, recorder)
        plugin.traced_since_load = traced_bytes() is not None
        if not plugin.traced_since_load and end.traced_bytes is not None:
            trim()  # the tracer's own tables are not the plugin's
        weighing = LoadWeighing(
            traced_bytes=_difference(start.traced_bytes, end.traced_bytes, recorder.host_bytes),
            blocks=end.blocks - start.blocks - recorder.host_blocks,
            resident_bytes=self.memory.resident_bytes() - resident,
            import_seconds=progress.import_seconds,
            seconds=end.seconds - start.seconds,
        )
        plugin.weigh(weighing)

    def _enter(self, plugin: Plugin, progress: _Progress, recorder: ImportRecorder) -> None:
        brought = recorder.brought()
        threads = Tasks.now().since(progress.tasks_before)
        ownership = _ownership(plugin, brought)
        self.books.enter(plugin.name, brought, ownership, threads)
        own = [weight.name for weight in brought if ownership.kind(weight.name) == "own"]
        compiled = next((name for name in own if is_extension(sys.modules.get(name))), None)
        if compiled is not None:
            candidate = plugin.candidate
            self._libraries.setdefault(normalize(candidate.distribution), (candidate.version, compiled))

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
            services=self.services,
            capabilities=self.capabilities,
            budget=lambda: self.budget_of(plugin.name),
            relieve=self.relieve,
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
        self._enter(plugin, progress, recorder)
        own = namespaces(weight.name for weight, kind, _ in self.books.of(plugin.name) if kind == "own")
        strays = stray_threads(own | _abandoned(plugin.own), leased=self.services.thread_idents())
        ours = [one for one in strays if not any(one is known for known in progress.threads_before)]
        residue.extend(f"thread {name!r} still runs" for name in stop_threads(ours, seconds=self.stop_seconds))
        departure = self.books.leave(plugin.name, dependencies=True)
        gone = {name for name in recorder.vanished() if classify(name, plugin.own) != "stdlib"}
        residue.extend(_cut(gone.union(departure.dropped), progress.differences() or plugin.patches))
        drop_modules(departure.dropped)
        plugin.leave_behind(departure.compiled)
        residue.extend(f"the compiled module {name!r} stays" for name in departure.compiled)


def _cut(names: Iterable[str], patches: Differences) -> list[str]:
    """Cut what may be cut while others run; what still holds something of these modules, in words."""
    from ..reclaim.ties.catalogue import cut_ties, wanted  # big, and hardly ever needed here

    findings = cut_ties(Belongings.of(names, wanted(), patches=patches), "safe")
    return [f"{one.place} holds {one.held}: {one.note}" for one in findings if one.outcome != "cut"]


def _look_at_folders() -> None:
    """Let the import system list its folders, which an unload made it forget: they are not the plugin's.

    It lists a folder when it looks for a module there, so it is asked for one that cannot be in any.
    """
    with contextlib.suppress(Exception):  # of a stranger's hook: the import will meet it, and tell
        importlib.machinery.PathFinder.find_spec("no module has a blank")


def _ownership(plugin: Plugin, brought: Iterable[ModuleWeight]) -> Ownership:
    """Whose modules are whose, by the metadata of the plugin's distribution and of those that it requires.

    Only what lies below ``sys.path`` can be imported, so that is where the metadata is looked for.
    """
    candidate = plugin.candidate
    # a namespace package has no file, and belongs to nobody
    wanted = [weight.name for weight in brought if weight.file and classify(weight.name, plugin.own) != "stdlib"]
    path = [site for site in list(sys.path) if type(site) is str]
    claims = Shelf(path).claims(candidate.distribution, candidate.version, wanted)
    distribution = normalize(candidate.distribution)
    described = Ownership(plugin.own, distribution, claims)
    is_told = described.group(plugin.module) == distribution and described.kind(plugin.module) == "own"
    return described if is_told else Ownership(plugin.own, None, claims)


def _difference(start: int | None, end: int | None, host: int) -> int | None:
    """What came on the scales, less what is the `host`'s own.

    None if nobody looked, or if the plugin itself stopped or restarted the tracing.
    """
    if start is None or end is None or end < start:
        return None
    return end - start - host


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
