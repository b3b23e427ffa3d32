"""The host: an instance and a context manager, never a global."""

from __future__ import annotations

import gc
import logging
import os
import threading
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from types import MappingProxyType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, get_args

import attrs
from weighbridge_hookspecs import (
    GROUP,
    AdmissionDeferred,
    AdmissionRefused,
    AlreadyLoaded,
    BudgetView,
    Candidate,
    CleanupFailed,
    ConfigurationError,
    ConflictingPlugin,
    Event,
    LoadFailed,
    MissingRequirement,
    NestedLoad,
    NotLoaded,
    PluginBlocked,
    PluginIncompatible,
    UnloadRefused,
    Verdict,
    WeighbridgeError,
)

from .accounting.account import Account, Statement
from .accounting.meters import make_meter
from .accounting.modules import ModuleBooks
from .accounting.process import ProcessMemory
from .admission.budget import Budget
from .admission.gatekeeper import Gatekeeper
from .admission.weights import Weights
from .containment import Faults, Overdraft
from .discovery.candidates import Discovery, discover
from .hooks import Hooks
from .leases.capabilities import CapabilityRegistry
from .lifecycle.admitting import Doorkeeper
from .lifecycle.bookkeeping import Bookkeeper
from .lifecycle.course import Wish
from .lifecycle.dismissal import Dismisser
from .lifecycle.dormant import make_stub, may_sleep
from .lifecycle.loading import Loader
from .lifecycle.plugin import Plugin
from .lifecycle.report import HostStatistics, LoadReport, Outcome
from .lifecycle.roster import Roster
from .lifecycle.services import Services
from .lifecycle.states import HELD, State
from .lifecycle.unloading import Unloader
from .pressure import Pressure
from .reclaim.receipt import Receipt, Verify
from .reclaim.ties.tie import Cut
from .units import format_bytes, parse_bytes

if TYPE_CHECKING:
    import pluggy

_log: Final = logging.getLogger("weighbridge.host")
MeterName = Literal["process", "gate", "trace"]
OnHookError = Literal["raise", "contain"]


class Host:
    """Admits, loads, accounts for and unloads plugins.

    :param ceiling: what the process may hold, in bytes or as ``"128 MiB"``; by default ``WEIGHBRIDGE_CEILING``, and
        without that there is no ceiling: everything is admitted, and accounted all the same.
    :param group: entry-point group to look in. Plugins of a group other than ``weighbridge`` are opaque: weighed,
        admitted, accounted and unloaded, never called.
    :param path: folders to look in instead of ``sys.path``.
    :param meter: ``"gate"`` traces while a plugin is loaded; ``"trace"`` all the time (slow); ``"process"`` never.
    :param settings: settings for each plugin, by its name.
    :param disabled: names or globs of plugins that must not be loaded, besides ``WEIGHBRIDGE_DISABLED_PLUGINS``.
    :param fail_open: names of plugins whose ``weighbridge_admit`` may fail without refusing the load.
    :param weights: what plugins weighed last time; by default from the user's cache folder.
    :param deadline_seconds: one deadline for what an unload waits for and searches.
    :param policy_seconds: one deadline for all admission policies together.
    :param explain_seconds: how long an unload may search for what holds a survivor.
    :param on_hook_error: what a plugin that raises in a call through :attr:`hook` does: ``"raise"`` ends the call, as
        pluggy has it; ``"contain"`` is logged and counted, and the others are called all the same.
    :param hook_error_limit: so many contained errors of one plugin, and it is dismissed: it is deactivated, and failed,
    :param hook_error_window_seconds: if they come within this time.
    :param store: the file for what plugins store, opened by the first of them; their journals are in the folder
        ``<store>.journals``. One process has it at a time. Without it neither is lent: where data goes is for the
        application to say.
    :raises ConfigurationError: if a setting makes no sense.
    """

    def __init__(
        self,
        ceiling: int | str | None = None,
        *,
        group: str = GROUP,
        path: Sequence[str] | None = None,
        meter: MeterName = "gate",
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        disabled: Iterable[str] = (),
        fail_open: Iterable[str] = (),
        weights: Weights | None = None,
        deadline_seconds: float = 5.0,
        policy_seconds: float = 10.0,
        explain_seconds: float = 2.0,
        on_hook_error: OnHookError = "raise",
        hook_error_limit: int = 5,
        hook_error_window_seconds: float = 60.0,
        store: str | os.PathLike[str] | None = None,
    ) -> None:
        environment = self._environment()
        self.group: Final = group
        self.ceiling_bytes: Final = _ceiling(environment.get("WEIGHBRIDGE_CEILING") or None, ceiling)
        self.deadline_seconds: Final = deadline_seconds
        self._path = path
        by_operator = environment.get("WEIGHBRIDGE_DISABLED_PLUGINS", "").split(",")
        self._disabled = (*_names("disabled", disabled), *filter(None, map(str.strip, by_operator)))
        self._lock = threading.RLock()
        self._busy: tuple[str, str] | None = None
        self._roster = Roster()
        self._registered: set[str] = set()
        self._receipts: dict[str, Receipt] = {}
        self._counts: Counter[str] = Counter()
        self._closed = False
        self._faults = Faults(
            _limit(hook_error_limit),
            _window(hook_error_window_seconds),
            is_plugin=lambda name: name in self._roster and name not in self._registered,
            overdrawn=self._dismiss_later,
        )
        contains = _choice("on_hook_error", on_hook_error, get_args(OnHookError)) == "contain"
        self._hooks = Hooks(_names("fail_open", fail_open), self._faults if contains else None)
        self._books = ModuleBooks()
        self._memory = ProcessMemory()
        self._meter = make_meter(meter)
        self._services = Services(store)
        self._capabilities = CapabilityRegistry()
        self._bookkeeper = Bookkeeper(self._hooks, self._books, self._meter, self._roster.plugins, self._roster.held)
        self._pressure = Pressure(self._hooks, self._memory, self._bookkeeper.held_bytes, self._shortfall)
        gatekeeper = Gatekeeper(
            self._hooks,
            Weights() if weights is None else weights,
            self.budget,
            self._bookkeeper.held_bytes,
            self._pressure.make_room,
            policy_seconds,
        )
        self._doorkeeper = Doorkeeper(gatekeeper, self._hooks, self._moved)
        self._loader = Loader(
            self._hooks,
            self._books,
            self._meter,
            self._memory,
            self._services,
            self._capabilities,
            {} if settings is None else settings,
            self._budget_view,
            self._moved,
            stop_seconds=2.0,
        )
        self._dismisser = Dismisser(self._hooks, self._services, self._moved, deadline_seconds)
        self._unloader = Unloader(
            self._hooks,
            self._books,
            self._memory,
            self._services,
            self._moved,
            self._roster.neighbours,
            explain_seconds,
            stop_seconds=2.0,
        )
        self._meter.open()

    # --- as an object -----------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        ceiling = format_bytes(self.ceiling_bytes) if self.ceiling_bytes else "none"
        return f"<Host group={self.group!r} ceiling={ceiling} loaded={len(self._roster.active())}>"

    def __del__(self) -> None:
        roster = getattr(self, "_roster", None)
        if roster is not None and (active := roster.active()):
            names = ", ".join(plugin.name for plugin in active)
            warnings.warn(
                f"a Host was dropped with plugins loaded: {names}", ResourceWarning, source=self, stacklevel=2
            )

    def _environment(self) -> Mapping[str, str]:
        """Where the operator's settings come from."""
        return os.environ

    @property
    def hook(self) -> pluggy.HookRelay:
        """pluggy's relay: ``host.hook.my_hook(argument=...)`` calls every loaded plugin that implements it."""
        return self._hooks.relay

    @property
    def capabilities(self) -> CapabilityRegistry:
        """What loaded plugins provide."""
        return self._capabilities

    @property
    def receipts(self) -> Mapping[str, Receipt]:
        """The last receipt of every plugin that was unloaded."""
        return MappingProxyType(dict(self._receipts))

    def add_hookspecs(self, namespace: ModuleType | type) -> None:
        """Add hooks of the application's own; they are called through :attr:`hook`."""
        self._hooks.add_specifications(namespace)

    def register(self, name: str, thing: object, *, fail_open: bool = False) -> None:
        """Register hooks of the application itself: policies, observers.

        :param fail_open: if its ``weighbridge_admit`` raises or is late, that is a warning and not a refusal.
        :raises ConfigurationError: if the name is taken, or an implementation does not fit its specification.
        """
        with self._lock:
            if self._is_a_plugin(name):
                raise ConfigurationError("cannot be registered: a loaded plugin has this name", plugin=name)
            self._hooks.register(name, thing, fail_open=fail_open)
            self._registered.add(name)

    def unregister(self, name: str) -> None:
        """Take back a registration of the application's own.

        :raises ConfigurationError: if `name` is a plugin; unload that.
        """
        with self._lock:
            if self._is_a_plugin(name):
                raise ConfigurationError("is a plugin and cannot be unregistered", plugin=name, advice="Unload it")
            self._hooks.unregister(name)
            self._registered.discard(name)

    def _is_a_plugin(self, name: str) -> bool:
        return name in self._roster and (self._roster[name].is_held or self._roster[name].state is State.DORMANT)

    # --- discovery --------------------------------------------------------------------------------------------------

    def discover(self) -> Discovery:
        """Look for candidates, importing nothing. What is loaded stays as it is, and everything else is seen anew."""
        with self._lock:
            found = self._look()
            self._roster.update(found, blocked=self._is_disabled)
            return found

    def _look(self) -> Discovery:
        return discover(self.group, self._path)

    def plugins(self) -> tuple[Outcome, ...]:
        """Every plugin that is known, with its state and the reason for it."""
        return tuple(
            Outcome(name=plugin.name, state=plugin.state.value, reason=plugin.reason)
            for plugin in self._roster.plugins()
        )

    def candidate(self, name: str) -> Candidate:
        """The candidate of that name.

        :raises DiscoveryError: if there is none.
        """
        return self._find(name).candidate

    def implemented(self, name: str) -> tuple[str, ...]:
        """The hooks that a loaded plugin implements, sorted."""
        return self._hooks.implemented(name)

    def _is_disabled(self, name: str) -> str | None:
        """The pattern by which a plugin is disabled, if it is."""
        return next((glob for glob in self._disabled if fnmatchcase(name, glob)), None)

    def _find(self, name: str) -> Plugin:
        if not self._roster.discovered:
            self.discover()
        return self._roster.find(name, self.group)

    # --- admission --------------------------------------------------------------------------------------------------

    def budget(self) -> Budget | None:
        """The budget now; None where no ceiling is set."""
        if self.ceiling_bytes is None:
            return None
        return Budget(
            ceiling_bytes=self.ceiling_bytes,
            usage_bytes=self._memory.resident_bytes(),
            promised_bytes=self._bookkeeper.promised_bytes(),
        )

    def ask(self, name: str, *, priority: int = 0) -> Verdict:
        """What admission would say to a load now, without loading anything (a dry run)."""
        with self._lock:
            plugin = self._find(name)
            return self._doorkeeper.judge(plugin, priority=priority, defer=False, dry_run=True)[1]

    def _shortfall(self, needs_bytes: int) -> int:
        budget = self.budget()
        return budget.shortfall_bytes(needs_bytes) if budget else 0

    def _budget_view(self, name: str) -> BudgetView:
        plugin, budget = self._roster[name], self.budget()
        manifest = plugin.candidate.manifest
        return BudgetView(
            load_bytes=manifest.load_bytes if manifest else None,
            peak_bytes=manifest.peak_bytes if manifest else None,
            held_bytes=plugin.held_bytes,
            headroom_bytes=budget.headroom_bytes if budget else None,
        )

    # --- loading ----------------------------------------------------------------------------------------------------

    def load(self, name: str, *, priority: int = 0, defer: bool = False) -> Account:
        """Admit and load one plugin, and before it the plugins that it requires.

        :param priority: its place in the queue if it is deferred; higher goes first.
        :param defer: queue it instead of refusing it when there is no room.
        :raises WeighbridgeError: nothing of the plugin is left behind then. The class says what happened:
            UnknownPlugin, AlreadyLoaded, PluginBlocked, PluginIncompatible, MissingRequirement, DependencyCycle,
            ConflictingPlugin, AdmissionRefused, AdmissionDeferred, LoadFailed, NestedLoad.
        """
        with self._exclusive(name, "load"):
            plugin = self._find(name)
            if plugin.state in HELD:
                raise AlreadyLoaded("is loaded already", plugin=name, step="load", advice="Reload it to see changes")
            self._check_loadable(plugin)
            for required in self._roster.requirements(plugin):
                if required.state not in HELD:
                    self._load_required(plugin, required)
            self._load(plugin, priority=priority, defer=defer)
            return self._bookkeeper.account(plugin)

    def load_all(self, names: Iterable[str] | None = None, *, strict: bool = False, defer: bool = False) -> LoadReport:
        """Load every candidate, in the order of what they require; what is loaded already is left alone.

        :param names: load only these, and what they require.
        :param strict: raise the first error instead of going on with the next plugin.
        :raises UnknownPlugin: if there is no plugin of one of `names`.
        """
        report: dict[str, list[Outcome]] = {
            heading: [] for heading in ("loaded", "dormant", "deferred", "refused", "failed")
        }
        with self._lock:
            for plugin in self._chosen(names):
                if plugin.state in HELD | {State.DORMANT}:
                    continue
                heading, outcome = self._try(plugin, strict=strict, defer=defer)
                report[heading].append(outcome)
        report["failed"] += [] if names is not None else self._broken(strict)
        return LoadReport(**{heading: tuple(outcomes) for heading, outcomes in report.items()})

    def _chosen(self, names: Iterable[str] | None) -> list[Plugin]:
        """The plugins to load, in order."""
        if not self._roster.discovered:
            self.discover()
        ordered = self._roster.in_order()
        if names is None:
            return ordered
        wanted = [self._find(name) for name in names]
        for plugin in list(wanted):
            if not self._roster.is_unresolved(plugin):
                wanted += self._roster.requirements(plugin)
        return [plugin for plugin in ordered if plugin in wanted]

    def _broken(self, strict: bool) -> list[Outcome]:
        """What is no candidate because something is wrong with its metadata."""
        problems = self._roster.problems
        if strict and problems:
            raise problems[0]
        return [Outcome(name=one.plugin or "", state="incompatible", reason=str(one)) for one in problems]

    def _try(self, plugin: Plugin, *, strict: bool, defer: bool) -> tuple[str, Outcome]:
        try:
            with self._exclusive(plugin.name, "load"):
                self._check_loadable(plugin)
                asleep = self._roster.check_requirements(plugin)
                if self._doze(plugin):
                    return "dormant", Outcome(name=plugin.name, state=plugin.state.value, reason=plugin.reason)
                for required in asleep:
                    self._load_required(plugin, required)
                noted = self._load(plugin, priority=0, defer=defer)
        except WeighbridgeError as error:
            if strict:
                raise
            return _heading(error), Outcome(name=plugin.name, state=plugin.state.value, reason=str(error))
        return "loaded", Outcome(name=plugin.name, state=plugin.state.value, warnings=noted)

    def _doze(self, plugin: Plugin) -> bool:
        """Let a plugin sleep until its first call, if its manifest says so; whether it does."""
        names = may_sleep(plugin, self._hooks.relay)
        if not names:
            return False
        self._moved(plugin, State.DORMANT, f"until the first call of {', '.join(names)}")
        stub = make_stub(names, self._hooks.relay, lambda hook, arguments: self._wake(plugin, hook, arguments))
        self._hooks.register(plugin.name, stub)
        return True

    def _wake(self, plugin: Plugin, hook: str, arguments: Mapping[str, Any]) -> Any:
        """The first call of a sleeping plugin: load it, and pass the call on. None if it cannot be loaded now."""
        with self._lock:
            if plugin.state not in HELD | {State.FAILED}:  # refused last time: there may be room now
                try:
                    self.load(plugin.name)
                except WeighbridgeError as error:
                    _log.error("%s could not be woken by %s: %s", plugin.name, hook, error)
        call = self._hooks.bound(plugin.name, hook, **arguments) if plugin.state is State.ACTIVE else None
        return call() if call is not None else None

    def _sleep_on(self, plugin: Plugin, asleep: bool) -> None:
        """Whoever slept before it could not be woken sleeps on, and the next call asks again."""
        if asleep:
            self._moved(plugin, State.DORMANT, plugin.reason)

    def _load_required(self, plugin: Plugin, required: Plugin) -> None:
        asleep = plugin.state is State.DORMANT
        try:
            self._load(required, priority=0, defer=False)
        except WeighbridgeError as error:
            reason = f"requires {required.name!r}, which could not be loaded: {error}"
            self._moved(plugin, State.UNRESOLVED, reason)
            self._sleep_on(plugin, asleep)
            problem = MissingRequirement(reason, plugin=plugin.name, step="load")
        else:
            return
        raise problem

    def _load(self, plugin: Plugin, *, priority: int, defer: bool) -> tuple[str, ...]:
        self._check_loadable(plugin)
        asleep = plugin.state is State.DORMANT
        try:
            noted = self._doorkeeper.admit(plugin, priority=priority, defer=defer)
            self._loader.load(plugin)
        except AdmissionRefused:
            self._sleep_on(plugin, asleep)
            raise
        except BaseException as error:
            self._fail(plugin, error)
            raise
        self._counts["loads"] += 1
        plugin.load_number = self._counts["loads"]
        self._doorkeeper.forget(plugin.name)
        self._moved(plugin, State.ACTIVE, "")
        return noted

    def _fail(self, plugin: Plugin, error: BaseException) -> None:
        """Give up the place that a plugin had taken, if it had."""
        if plugin.state not in HELD:
            return
        self._hooks.unregister(plugin.name)
        self._doorkeeper.forget(plugin.name)
        self._counts["failures"] += 1
        self._moved(plugin, State.FAILED, error.message if isinstance(error, LoadFailed) else "interrupted")

    def _check_loadable(self, plugin: Plugin) -> None:
        if plugin.state is State.BLOCKED:
            raise PluginBlocked(f"is {plugin.reason}", plugin=plugin.name, step="load")
        if plugin.state is State.INCOMPATIBLE:
            raise PluginIncompatible(
                plugin.reason, plugin=plugin.name, step="load", advice="Install a matching version"
            )
        if plugin.name in self._registered:
            raise ConfigurationError(
                "the application has registered something else under this name", plugin=plugin.name, step="load"
            )
        if plugin.has_failed_at_work:
            raise AlreadyLoaded(
                f"is loaded still, although it failed: {plugin.reason}",
                plugin=plugin.name,
                step="load",
                advice="Unload it first",
            )
        if (remnant := self._loader.remnant(plugin)) is not None:
            version, module = remnant
            raise PluginIncompatible(
                f"version {version} cannot leave this process whole, because of {module}, "
                f"and version {plugin.candidate.version} would meet what is left",
                plugin=plugin.name,
                step="load",
                advice=f"Restart the process to load version {plugin.candidate.version}",
            )
        if (other := self._roster.conflict(plugin)) is not None:
            raise ConflictingPlugin(
                f"conflicts with {other!r}, which is loaded", plugin=plugin.name, step="load", advice=f"Unload {other}"
            )

    # --- unloading --------------------------------------------------------------------------------------------------

    def unload(
        self,
        name: str,
        *,
        cascade: bool = True,
        dependencies: bool = False,
        deadline_seconds: float | None = None,
        verify: Verify = "full",
        cut: Cut = "safe",
        reason: str = "it was asked to",
    ) -> Receipt:
        """Unload one plugin, and prove it.

        :param cascade: unload those that require it first; otherwise they are a reason to refuse.
        :param dependencies: drop pure-Python dependencies too that nobody else uses.
        :param deadline_seconds: one deadline for what the host waits for (calls under way, threads) and searches.
        :param verify: ``"weakref"`` counts what is left without searching for what holds it; ``"none"`` neither looks
            nor collects, and the receipt proves nothing.
        :param cut: which ties to cut: ``"safe"`` those that cannot disturb others, ``"all"``, or ``"none"``.
        :raises UnknownPlugin, NotLoaded, UnloadRefused, UnloadTimeout: the plugin is as it was before.
        """
        wish = self._wish(reason, dependencies, deadline_seconds, verify, cut)
        receipt = self._see_out(name, wish, cascade=cascade)
        self._retry_deferred()
        return receipt

    async def unload_async(self, name: str, **options: Any) -> Receipt:
        """:meth:`unload` in a thread, while the event loop runs on: calls that it has under way can come to their end.

        :param options: those of :meth:`unload`.
        """
        import asyncio

        return await asyncio.to_thread(self.unload, name, **options)

    def _wish(
        self, reason: str, dependencies: bool, seconds: float | None, verify: Verify = "full", cut: Cut = "safe"
    ) -> Wish:
        for setting, value, legal in (("verify", verify, get_args(Verify)), ("cut", cut, get_args(Cut))):
            if value not in legal:
                raise ConfigurationError(
                    f"{setting}={value!r} makes no sense", step="unload", advice=f"Take one of: {', '.join(legal)}"
                )
        wait = self.deadline_seconds if seconds is None else seconds
        return Wish(reason=reason, dependencies=dependencies, seconds=wait, verify=verify, cut=cut)

    def _see_out(self, name: str, wish: Wish, *, cascade: bool) -> Receipt:
        with self._exclusive(name, "unload"):
            plugin = self._find(name)
            if plugin.state is not State.ACTIVE and not plugin.has_failed_at_work:
                raise NotLoaded(f"is not loaded (it is {plugin.state})", plugin=name, step="unload")
            dependents = self._roster.dependents(plugin)
            if dependents and not cascade:
                names = ", ".join(one.name for one in dependents)
                raise UnloadRefused(f"is required by {names}", plugin=name, step="unload", advice="Unload those first")
            along = attrs.evolve(wish, reason=f"{name}, which it requires, is being unloaded")
            for one in (*dependents, plugin):
                self._unloader.ask(one, wish if one is plugin else along)
            first = tuple(self._unload(one, along, ()) for one in dependents)
            return self._unload(plugin, wish, first)

    def _unload(self, plugin: Plugin, wish: Wish, first: tuple[Receipt, ...]) -> Receipt:
        receipt = self._unloader.unload(plugin, wish, first)
        self._counts["unloads"] += 1
        self._receipts[plugin.name] = receipt
        return receipt

    def reload(self, name: str) -> Account:
        """Unload a plugin with those that require it, discover anew, and load them again.

        The receipts are in :attr:`receipts`. If the new generation cannot be loaded, the old one is gone all the same.
        A dependent that cannot come back does not stop the others; the first error is raised when all were tried.
        """
        with self._lock:
            receipt = self._see_out(name, self._wish("it is being reloaded", False, None), cascade=True)
            try:
                return self._load_again(name, [one.plugin for one in reversed(receipt.also_unloaded)])
            finally:
                self._retry_deferred()  # only now, or they would take the place of what is to come back

    def _load_again(self, name: str, dependents: list[str]) -> Account:
        self.discover()
        account = self.load(name)
        problems: list[WeighbridgeError] = []
        for dependent in dependents:
            try:
                if self._find(dependent).state not in HELD:  # another one may have required it
                    self.load(dependent)
            except WeighbridgeError as error:
                problems.append(error)
        if problems:
            raise problems[0]
        return account

    def look_again(self) -> tuple[str, ...]:
        """Collect, and check what was stranded once more; the names of plugins that are gone for good by now."""
        with self._lock:
            if any(plugin.stranded for plugin in self._roster.plugins()):
                gc.collect()
            return self._look_again()

    def _look_again(self) -> tuple[str, ...]:
        with self._lock:
            gone = [
                plugin for plugin in self._roster.plugins() if plugin.look_again() and plugin.state is State.STRANDED
            ]
            for plugin in gone:
                self._moved(plugin, State.UNLOADED, "what had outlived it is gone")
            return tuple(plugin.name for plugin in gone)

    def close(self) -> None:
        """Unload everything, the last loaded first, and give back what the host itself holds.

        :raises ExceptionGroup: of what went wrong on the way; nothing was skipped because of it.
        """
        problems: list[WeighbridgeError] = []
        with self._lock:
            self._doorkeeper.forget_all()
            for plugin in self._roster.plugins():
                if plugin.state is State.DORMANT:
                    self._hooks.unregister(plugin.name)
                    self._moved(plugin, State.UNLOADED, "the host is closing")
            for plugin in reversed(self._roster.active()):
                if plugin.state is State.ACTIVE or plugin.has_failed_at_work:
                    problems += self._close(plugin)
            self._closed = True
            problems += self._services.close()
            self._meter.close()
            self._memory.close()
        if problems:
            raise ExceptionGroup("closing the host went wrong", problems)

    def _close(self, plugin: Plugin) -> list[WeighbridgeError]:
        """Unload one plugin for good; what went wrong."""
        try:
            wish = attrs.evolve(self._wish("the host is closing", False, None), vetoes=False)
            receipt = self._see_out(plugin.name, wish, cascade=True)
        except WeighbridgeError as error:
            return [error]
        receipts = (*receipt.also_unloaded, receipt)
        return [CleanupFailed(line, plugin=one.plugin, step="unload") for one in receipts for line in one.failures]

    def _retry_deferred(self) -> None:
        """Load what was deferred and fits by now, by priority, then by age."""
        for name, priority in self._doorkeeper.waiting():
            if self._roster[name].state is not State.DEFERRED:
                self._doorkeeper.forget(name)
                continue
            try:
                self.load(name, priority=priority, defer=True)
            except WeighbridgeError:
                continue  # its state keeps the reason, and observers were told

    # --- accounts ---------------------------------------------------------------------------------------------------

    def account(self, name: str) -> Account:
        """The account of one plugin that is loaded or stranded, drawn now.

        :raises UnknownPlugin, NotLoaded: if there is nothing to draw.
        """
        plugin = self._find(name)
        if not plugin.is_held and plugin.state is not State.STRANDED:
            raise NotLoaded(f"is not loaded (it is {plugin.state})", plugin=name, step="account")
        return self._bookkeeper.account(plugin)

    def accounts(self) -> Statement:
        """All accounts, and what belongs to nobody, drawn now. Never waits for a load or an unload under way."""
        if self._lock.acquire(blocking=False):
            try:
                self._look_again()
            finally:
                self._lock.release()
        return self._bookkeeper.statement(self._memory.resident_bytes(), self.budget())

    def statistics(self) -> HostStatistics:
        """What the host has done so far."""
        states = Counter(plugin.state.value for plugin in self._roster.plugins())
        return HostStatistics(
            states=MappingProxyType(dict(states)),
            loads=self._counts["loads"],
            refusals=self._doorkeeper.refusals,
            failures=self._counts["failures"],
            unloads=self._counts["unloads"],
            stranded=states[State.STRANDED.value],
            hook_errors=self._faults.totals(),
            schedule=self._services.scheduler.statistics(),
            last_reaction=self._pressure.last,
        )

    # --- inside -----------------------------------------------------------------------------------------------------

    def _dismiss_later(self, overdraft: Overdraft) -> None:
        """Dismiss a plugin in a thread that nobody waits for.

        The one that made the failing call may hold locks of the application's, and so may whoever holds ours.
        """
        thread = threading.Thread(
            target=self._dismiss, args=(overdraft,), name=f"weighbridge-dismiss-{overdraft.name}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # the process is ending, or has no thread left; no call reaches it all the same
            _log.error("%s is out, and cannot be dismissed: %s", overdraft.name, error)

    def _dismiss(self, overdraft: Overdraft) -> None:
        name, reason = overdraft.name, overdraft.reason
        inside = self._dismisser.wait(name)
        with self._exclusive(name, "dismiss"):
            # it may have been unloaded meanwhile, and another generation of it loaded
            if name not in self._roster or not self._faults.is_current(overdraft):
                return
            plugin = self._roster[name]
            if plugin.state is not State.ACTIVE:
                return
            _log.error("%s is dismissed: %s", name, reason)
            if inside:
                _log.warning("%s is dismissed with calls under way: %s", name, "; ".join(inside))
            self._counts["failures"] += 1
            self._dismisser.dismiss(plugin, reason)

    def _moved(self, plugin: Plugin, state: State, reason: str) -> None:
        before = plugin.move(state, reason)
        self._hooks.event(
            Event(kind="state", plugin=plugin.name, state=state.value, previous=before.value, reason=reason or None)
        )

    @contextmanager
    def _exclusive(self, name: str, step: str) -> Iterator[None]:
        """One load or unload at a time. One that is asked for from inside another is an error, not a deadlock."""
        with self._lock:
            if self._busy is not None:
                outer, doing = self._busy
                raise NestedLoad(
                    f"cannot be {step}ed while {outer!r} is being {doing}ed",
                    plugin=name,
                    step=step,
                    advice=f"Let the manifest of {outer} say requires = [{name!r}]" if step == "load" else None,
                )
            self._busy = (name, step)
            try:
                yield
            finally:
                self._busy = None


def _ceiling(by_operator: str | None, given: int | str | None) -> int | None:
    ceiling = by_operator if given is None else given
    if ceiling is None:
        return None
    problem = ""
    try:
        size = parse_bytes(ceiling)
    except ValueError as error:
        problem, size = str(error), 0
    if not problem and size == 0:
        problem = "0 leaves no room for anything"
    if problem:
        raise ConfigurationError(f"the ceiling makes no sense: {problem}", step="configure")
    return size


def _choice(setting: str, given: str, legal: tuple[str, ...]) -> str:
    if given not in legal:
        raise ConfigurationError(
            f"{setting} makes no sense: {given!r}", step="configure", advice=f"Take one of: {', '.join(legal)}"
        )
    return given


def _limit(given: int) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise ConfigurationError(
            f"hook_error_limit makes no sense: {given!r}", step="configure", advice="Give a whole number from 1 up"
        )
    return given


def _window(given: float) -> float:
    if not isinstance(given, int | float) or isinstance(given, bool) or not given > 0:  # nan is not
        raise ConfigurationError(
            f"hook_error_window_seconds makes no sense: {given!r}", step="configure", advice="Give more than 0"
        )
    return float(given)


def _names(setting: str, names: Iterable[str]) -> tuple[str, ...]:
    """A list of names; a text would be a list of its letters."""
    if isinstance(names, str):
        raise ConfigurationError(
            f"{setting} makes no sense: {names!r} is a text", step="configure", advice=f"Give a list: [{names!r}]"
        )
    return tuple(names)


def _heading(error: WeighbridgeError) -> str:
    """Under which heading of a report an error goes."""
    if isinstance(error, AdmissionDeferred):
        return "deferred"
    return "refused" if isinstance(error, AdmissionRefused) else "failed"
