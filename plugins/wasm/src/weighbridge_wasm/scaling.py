"""WebAssembly modules for host applications and other plugins: registered once, called in isolation."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import attrs
from weighbridge_hookspecs import (
    Backpressure,
    ConfigurationError,
    Gate,
    PluginContext,
    ScalingLimits,
    ScalingMetrics,
)
from weighbridge_hookspecs.services import Priority

from .binary import FunctionType
from .compiled import CompiledCache
from .concurrency import ConcurrencyControl
from .config import ModuleConfig, ScalingSettings
from .cores import find_cores
from .engine import Engine
from .functions import Functions
from .instance import Instance
from .load import open_load
from .pool import ModulePool, WarmPool
from .registry import Entry, Registry
from .reset import open_resetter
from .session import Session
from .statistics import ModuleStatistics, WasmStatistics
from .supply import StateSupply
from .use import Here, places
from .values import Value


class WasmScaling:
    """What the capability ``wasm`` gives. Thread-safe. It is a :class:`~weighbridge_hookspecs.ScalableSubsystem`.

    :param context: lends gates, the store and the log.
    :param settings: the plugin's.
    """

    def __init__(self, context: PluginContext, settings: ScalingSettings) -> None:
        self._log: Final = context.log
        self._wait_seconds = settings.wait_seconds
        self._ticking: Final = threading.RLock()  # the collector may run a finalizer that sets bounds
        self._is_closed = False
        self._here: Final = Here()
        self.engine: Final = Engine()
        self._resetter: Final = open_resetter()
        self._cache: Final = CompiledCache(settings.cache_folder, max_bytes=settings.cache_bytes, log=context.log)
        self._pool: Final[WarmPool[Instance]] = WarmPool(
            max_items=settings.max_idle_instances, max_bytes=settings.max_idle_bytes
        )
        self._registry: Final = Registry(context, settings, self.engine, self._resetter, self._cache, self._pool)
        cores = find_cores()
        self._gate: Final[Gate] = context.gate(cores.count, max_waiting=settings.max_waiting)
        self._load: Final = open_load(settings.load_source, cores)
        self._control: Final = ConcurrencyControl(
            cores, self._load, self._gate.resize, interval_seconds=settings.interval_seconds
        )

    # --- modules -----------------------------------------------------------------------------------------------------

    def register(
        self,
        module: bytes | str | os.PathLike[str],
        config: ModuleConfig | Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        functions: Functions | None = None,
        owner: str | None = None,
    ) -> str:
        """Make a module ready to be called; its id.

        It is compiled, or taken from the cache of compiled modules. What it may take is, in this order: the operator's
        defaults, what its custom section ``weighbridge`` asks for, `config`, and what :meth:`configure` has changed
        since it was first registered with this `config`, be it in an earlier process.

        :param module: its bytes in WebAssembly's binary format, or the path of a file with them.
        :param name: the id; by default the beginning of its SHA-256. The same module may be registered again under the
            same id, with the same `config` and `functions`; it stays until it was unregistered as often.
        :param functions: what it may call of the host, by ``"<module>.<name>"``; see :class:`.HostFunction`.
        :param owner: the plugin that registers it, ``context.name``: when that is unloaded the module goes as well, and
            with it `functions`, which would otherwise keep the plugin alive.
        :raises InvalidModule: if it is no valid module, wants what nobody provides, or begins above its limits.
        :raises ConfigurationError: if `config` or its section makes no sense, or the id is taken by another module.
        :raises ServiceUnavailable: if it keeps state, and the application gave its host no file for a store.
        :raises OSError: if the file cannot be read.
        """
        return self._registry.register(_content(module), config, name, functions, owner)

    def unregister(self, module_id: str, *, owner: str | None = None) -> None:
        """Let go of a module. What it knows is suspended first if it keeps state, and stays in the store.

        A call that waits for its place is `UnknownModule` then; one that runs goes on to its end.

        :param owner: whose registration ends, where several plugins have registered it; by default the last one.
        :raises UnknownModule: if it is not registered.
        :raises Saturated, StorageFailed, StorageDamaged, StateRefused, CeilingExceeded: as :meth:`suspend` does; it
            stays registered then.
        """
        self._registry.unregister(module_id, owner)

    def unregister_of(self, owner: str) -> int:
        """Let go of every module that a plugin registered; how many.

        One that others have registered as well stays for them, unless it has host functions, which are the plugin's.

        :raises ExceptionGroup: of what kept states from being suspended; all of them are let go of.
        """
        return self._registry.unregister_of(owner)

    def configure(self, module_id: str, **changes: Any) -> ModuleConfig:
        """Change what a module may take while it is in use; what is in force then.

        Instances have it from their next use on. It is kept in the store, if there is one.

        :param changes: fields of :class:`.ModuleConfig`, but ``keep_state`` and ``wasi``.
        :raises UnknownModule: if it is not registered.
        :raises ConfigurationError: if a value makes no sense, or is one that only a registration can set.
        :raises InvalidModule: if the module begins above its new limits.
        :raises StorageFailed: if it could not be kept. With every error all stays as it was.
        """
        return self._registry.configure(module_id, changes)

    def exports(self, module_id: str) -> Mapping[str, FunctionType]:
        """The functions of a module, with their types.

        :raises UnknownModule: if it is not registered.
        """
        return self._registry.find(module_id).module.program.facts.function_exports

    # --- calls -------------------------------------------------------------------------------------------------------

    def call(
        self,
        module_id: str,
        function: str,
        *arguments: Value,
        deadline_seconds: float | None = None,
        fuel: int | None = None,
        priority: Priority = "normal",
    ) -> Any:
        """Call an exported function, in this thread, in an instance that holds nothing of any other call.

        A module that keeps state has one instance, which holds what the call before has left. Within a session, and
        within a host function, a call takes no place of its own.

        :param arguments: int for i32 and i64, signed or unsigned; int or float for f32 and f64; 16 bytes for v128.
        :param deadline_seconds: what the call may take, above 0; by default what the module's configuration says. The
            start of a fresh instance, where the module has one, may take as much before it.
        :param fuel: what it may use, about one unit for each instruction; likewise.
        :returns: None, one value (integers signed), or a tuple of them.
        :raises UnknownModule, UnknownFunction: if there is no such thing; the advice names the nearest one.
        :raises TypeError, ValueError: if the arguments are not what it takes.
        :raises Saturated: if no place became free in time.
        :raises RuntimeError: if it keeps state, and its one instance is what this thread uses already.
        :raises Trapped, OutOfFuel, DeadlineExceeded: if it did not come to its end.
        :raises Exited: if a WASI program ended itself.
        :raises BaseException: whatever a host function raised in this very call.
        """
        entry = self._registry.find(module_id)
        module, supply = entry.module, entry.supply
        config = module.config
        here = self._here.keys
        with places(entry, self._gate, here, priority, self._wait_seconds):
            # what `Use` does, with fewer calls on the way
            instance: Instance | None = None
            failure: type[BaseException] | None = None
            if deadline_seconds is None:
                deadline_seconds = config.deadline_seconds
            if fuel is None:
                fuel = config.fuel
            here.append(module.key)
            try:
                instance = supply.lend(deadline_seconds, fuel)
                return instance.call(function, arguments, deadline_seconds=deadline_seconds, fuel=fuel)
            except BaseException as error:
                failure = type(error)
                raise
            finally:
                here.remove(module.key)
                try:
                    module.end(failure)
                finally:
                    if instance is not None:
                        supply.take_back(instance)

    def session(self, module_id: str, *, priority: Priority = "normal") -> AbstractContextManager[Session]:
        """Several calls on one instance, with its memory in reach, for as long as the ``with`` block lasts.

        :raises UnknownModule: if it is not registered.
        :raises Saturated: on entering, if no place became free in time.
        """
        entry = self._registry.find(module_id)
        return Session(
            entry,
            self._here,
            lambda keys: places(entry, self._gate, keys, priority, self._wait_seconds),
        )

    def interrupt(self) -> None:
        """End every call that runs now and has at most an hour left, as if its deadline had come.

        What is in a module's code does not notice Ctrl-C: Python handles a signal when the main thread is back in
        Python. So call modules in another thread, wait for that one, and call this when the wait is interrupted.
        """
        self.engine.ticker.skip(_MOST_SECONDS)

    # --- state -------------------------------------------------------------------------------------------------------

    def suspend(self, module_id: str) -> int:
        """Write what a module knows to the store, and close its instance; the bytes that it occupied.

        :raises UnknownModule: if it is not registered.
        :raises ConfigurationError: if it keeps no state.
        :raises Saturated: if it was in use all the time.
        :raises StorageFailed, StorageDamaged, StateRefused, CeilingExceeded: if the store did not take it. The module
            goes on as it is then.
        """
        supply = self._keeping(module_id)
        with supply.door.enter(priority="high", timeout_seconds=self._wait_seconds):
            return supply.suspend()

    def resume(self, module_id: str) -> None:
        """Have a module know now, rather than at its next call, what it knew when it was suspended.

        :raises UnknownModule: if it is not registered.
        :raises ConfigurationError: if it keeps no state.
        :raises Saturated: if it was in use all the time.
        :raises StorageDamaged: if what was kept is damaged; it stays, and so does what was kept before.
        :raises StateRefused: if it is of other code, or does not fit.
        """
        supply = self._keeping(module_id)
        with supply.door.enter(priority="high", timeout_seconds=self._wait_seconds):
            supply.wake()

    # --- memory ------------------------------------------------------------------------------------------------------

    def trim(self, nbytes: int) -> int:
        """Give memory back: idle instances first, then states that nobody uses are suspended; the bytes that went."""
        freed = self._pool.trim(nbytes)
        for supply in self._states():
            if freed >= nbytes:
                break
            freed += supply.suspend_if_idle()
        return freed

    def resident_bytes(self) -> int:
        """What instances occupy, as last measured, and machine code; quick."""
        instances = sum(one.resident_bytes for one in self._pool.statistics().modules.values())
        states = sum(supply.resident_bytes() for supply in self._states())
        code = sum(entry.module.program.code_bytes or 0 for entry in self._registry.entries())
        return instances + states + code

    # --- scaling -----------------------------------------------------------------------------------------------------

    @property
    def limits(self) -> ScalingLimits:
        """The bounds in force: the limit moves below its maximum, with the load."""
        gate = self._gate.statistics()
        return ScalingLimits(
            max_concurrent_operations=self._control.statistics().ceiling,
            max_waiting=gate.max_waiting,
            wait_seconds=self._wait_seconds,
        )

    def metrics(self) -> ScalingMetrics:
        """What it is doing now; its utilization is the share of the places that are taken."""
        gate, control = self._gate.statistics(), self._control.statistics()
        return ScalingMetrics(
            running=gate.inside,
            waiting=gate.waiting,
            completed=gate.left,
            rejected=gate.rejected + gate.timed_out,
            utilization=min(gate.inside / control.limit, 1.0),
        )

    def reconfigure(self, limits: ScalingLimits) -> None:
        """Take new bounds; what runs already goes on. Below its maximum the limit goes on following the load.

        :raises ConfigurationError: if one of them makes no sense; then all stays as it was.
        """
        if limits.wait_seconds is not None and not limits.wait_seconds > 0:
            raise ConfigurationError(f"wait_seconds is {limits.wait_seconds!r}", advice="Give a number above 0")
        with self._ticking:  # or a tick would move the limit in between
            before = self._control.statistics().ceiling
            limit = self._control.set_bounds(ceiling=limits.max_concurrent_operations)
            try:
                self._gate.resize(limit, max_waiting=limits.max_waiting)
            except BaseException:
                self._control.set_bounds(ceiling=before)
                raise
            self._wait_seconds = self._wait_seconds if limits.wait_seconds is None else limits.wait_seconds

    def backpressure(self) -> Backpressure:
        """Whether it takes more work now: there is room in the queue."""
        gate = self._gate.statistics()
        if gate.inside < gate.limit or gate.waiting < gate.max_waiting:
            return Backpressure(accepting=True)
        held = gate.service_seconds
        return Backpressure(accepting=False, retry_after_seconds=None if held is None else held / gate.limit)

    def tick(self) -> None:
        """Look at the load and adjust the limit, and let go of instances that no peak needs; at a steady pace."""
        with self._ticking:
            if not self._is_closed:
                self._control.tick()
                self._pool.decay()

    # --- what it says of itself, and its end -------------------------------------------------------------------------

    def statistics(self) -> WasmStatistics:
        """How all of it stands."""
        pool, entries = self._pool.statistics(), self._registry.entries()
        modules = {
            entry.module.module_id: _described(entry, pool.modules.get(entry.module.key, _NOTHING)) for entry in entries
        }
        ids = {entry.module.key: entry.module.module_id for entry in entries}
        pool = attrs.evolve(pool, modules={ids.get(key, key): one for key, one in pool.modules.items()})
        return WasmStatistics(
            modules=modules,
            pool=pool,
            gate=self._gate.statistics(),
            concurrency=self._control.statistics(),
            cache=self._cache.statistics(),
            reset_strategy=self._resetter.strategy,
            reset_evidence=self._resetter.evidence,
            is_private_access=self.engine.seam is not None,
            resident_bytes=sum(one.resident_bytes for one in modules.values()),
            code_bytes=sum(one.code_bytes or 0 for one in modules.values()),
        )

    def close(self) -> None:
        """Suspend what is to be kept, and let go of everything. Closing twice does nothing.

        :raises ExceptionGroup: of what kept states from being suspended; everything is let go of.
        """
        with self._ticking:
            self._is_closed = True
        try:
            self._registry.close()
        finally:
            self._pool.close()
            self._load.close()
            self._resetter.close()
            self.engine.close()

    def _states(self) -> Iterator[StateSupply]:
        for entry in self._registry.entries():
            if isinstance(entry.supply, StateSupply):
                yield entry.supply

    def _keeping(self, module_id: str) -> StateSupply:
        supply = self._registry.find(module_id).supply
        if not isinstance(supply, StateSupply):
            raise ConfigurationError(
                f"the module {module_id!r} keeps no state",
                step="suspend",
                advice="Register it with keep_state = true",
            )
        return supply


_MOST_SECONDS: Final = 3600.0
_NOTHING: Final = ModulePool(idle=0, in_use=0, peak=0, resident_bytes=0)


def _described(entry: Entry, pool: ModulePool) -> ModuleStatistics:
    module, state = entry.module, entry.supply if isinstance(entry.supply, StateSupply) else None
    kept = None if state is None else state.kept
    in_use = pool.in_use if state is None else int(state.is_lent)
    completed, failed = module.completed, module.failed
    return ModuleStatistics(
        module_id=module.module_id,
        sha256=module.sha256.hex(),
        owner=entry.owners[0],
        config=module.config,
        obstacles=module.obstacles,
        uses=completed + sum(failed.values()) + in_use,
        completed=completed,
        failed=failed,
        idle=pool.idle if state is None else int(state.is_live) - in_use,
        in_use=in_use,
        resident_bytes=pool.resident_bytes if state is None else state.resident_bytes(),
        code_bytes=module.program.code_bytes,
        suspended_bytes=None if kept is None else kept.bytes,
    )


def _content(module: bytes | str | os.PathLike[str]) -> bytes:
    if isinstance(module, bytes | bytearray | memoryview):
        return bytes(module)
    return Path(module).read_bytes()
