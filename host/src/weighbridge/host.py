"""The host: an instance and a context manager, never a global."""

from __future__ import annotations

import os
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType, ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, get_args

from weighbridge_hookspecs import (
    GROUP,
    Candidate,
    ConfigurationError,
    Fact,
    NotLoaded,
    Terminal,
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
from .lifecycle import settings as checked
from .lifecycle.admitting import Doorkeeper
from .lifecycle.arrivals import Arrivals
from .lifecycle.batch import Batch
from .lifecycle.bookkeeping import Bookkeeper
from .lifecycle.bounds import buffer_terms, ceiling_of
from .lifecycle.departures import Departures
from .lifecycle.dismissal import Dismisser
from .lifecycle.eligibility import Eligibility
from .lifecycle.finder import Finder
from .lifecycle.loading import Loader
from .lifecycle.moves import move
from .lifecycle.report import HostStatistics, LoadReport, Outcome
from .lifecycle.roster import Roster
from .lifecycle.services import Services
from .lifecycle.states import State
from .lifecycle.treasurer import Treasurer
from .lifecycle.turn import Turn
from .lifecycle.unloading import Unloader
from .pressure.relief import Relief
from .pressure.settings import MemorySettings
from .reclaim.receipt import Receipt, Verify
from .reclaim.ties.tie import Cut
from .units import format_bytes

if TYPE_CHECKING:
    import pluggy

    from .lifecycle.watch import Watch
    from .pressure.monitor import MemoryStatistics

MeterName = Literal["process", "gate", "trace"]
OnHookError = Literal["raise", "contain"]
_CHECK_SECONDS: Final = 10.0


class Host:
    """Admits, loads, accounts for and unloads plugins.

    :param ceiling: what the process may hold, in bytes or as ``"128 MiB"``; by default ``WEIGHBRIDGE_CEILING``, without
        that the one of `memory` where that is enabled, and else none: then everything is admitted, and accounted
        all the same.
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
    :param memory: how the process is kept under its ceiling while it runs; by default it is not.
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
        memory: MemorySettings | None = None,
    ) -> None:
        environment = self._environment()
        self.group: Final = group
        bounds = checked.memory(memory)
        own = checked.ceiling(environment.get("WEIGHBRIDGE_CEILING") or None, ceiling)
        self.deadline_seconds: Final = deadline_seconds
        by_operator = checked.listed(environment.get("WEIGHBRIDGE_DISABLED_PLUGINS", ""))
        off = (*checked.names("disabled", disabled), *by_operator)
        limit, window = checked.limit(hook_error_limit), checked.window(hook_error_window_seconds)
        contains = checked.choice("on_hook_error", on_hook_error, get_args(OnHookError)) == "contain"
        open_names = checked.names("fail_open", fail_open)

        # Nothing below refers to the host, so one that is dropped goes at once, and everything refers to what is above
        # it; only faults have to be told to one who needs the hooks first.
        def overdrawn(overdraft: Overdraft) -> None:
            dismisser.begin(overdraft)

        # who is there
        self._turn = turn = Turn()
        self._roster = roster = Roster()
        self._registered = registered = set[str]()
        self._finder = finder = Finder(group, self._search(group, path), off, roster, turn)

        # who is called
        is_plugin = partial(_is_plugin, roster, registered)
        self._faults = Faults(limit, window, is_plugin=is_plugin, overdrawn=overdrawn)
        self._hooks = hooks = Hooks(open_names, self._faults if contains else None)
        moved = partial(move, hooks)

        # what is measured, and what may still be taken
        books = ModuleBooks()
        self._memory = process = ProcessMemory()
        self._meter = make_meter(meter)
        self._bookkeeper = bookkeeper = Bookkeeper(hooks, books, self._meter, roster.plugins, roster.held)
        self._ceiling = in_force = ceiling_of(bounds, own)
        self._treasurer = treasurer = Treasurer(in_force, process, bookkeeper, roster)
        self._relief = relief = Relief(hooks, process.resident_bytes, bookkeeper.held_bytes)

        # what is lent
        self._services = services = Services(store, buffer_terms(bounds, in_force, process, relief))
        relief.give_back = services.trim_buffers
        self._capabilities = CapabilityRegistry()

        # in
        gatekeeper = Gatekeeper(
            hooks,
            Weights() if weights is None else weights,
            treasurer.budget,
            bookkeeper.held_bytes,
            lambda nbytes: relief.make_room("load", partial(treasurer.shortfall, nbytes)),
            policy_seconds,
        )
        loader = Loader(
            hooks,
            books,
            self._meter,
            process,
            services,
            self._capabilities,
            {} if settings is None else settings,
            treasurer.view,
            relief.relieve,
            moved,
            stop_seconds=2.0,
        )
        eligibility = Eligibility(roster, loader, registered)
        self._doorkeeper = doorkeeper = Doorkeeper(gatekeeper, hooks, moved)
        self._arrivals = Arrivals(turn, finder, roster, eligibility, doorkeeper, loader, bookkeeper, hooks, moved)
        self._batch = Batch(turn, finder, roster, self._arrivals)

        # out
        neighbours = roster.neighbours
        unloader = Unloader(hooks, books, process, services, moved, neighbours, explain_seconds, stop_seconds=2.0)
        self._departures = Departures(turn, finder, roster, unloader, hooks, moved, deadline_seconds)
        faults = weakref.ref(self._faults)
        self._dismisser = dismisser = Dismisser(turn, roster, faults, hooks, services, moved, deadline_seconds)
        self._meter.open()

        # who keeps watch
        self._watch: Watch | None = None
        if bounds.enabled:
            from .lifecycle.watch import Watch

            self._watch = Watch(bounds, in_force, process, relief, services, hooks, self._arrivals)
            gatekeeper.pressure = self._watch.monitor.refusal

    # --- as an object -----------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        ceiling = format_bytes(self._ceiling.nbytes) if self._ceiling.nbytes else "none"
        return f"<Host group={self.group!r} ceiling={ceiling} loaded={len(self._roster.active())}>"

    def __del__(self) -> None:
        if (watch := getattr(self, "_watch", None)) is not None:
            watch.end()  # or its timer would go on for ever
        roster = getattr(self, "_roster", None)
        if roster is not None and (active := roster.active()):
            names = ", ".join(plugin.name for plugin in active)
            warnings.warn(
                f"a Host was dropped with plugins loaded: {names}", ResourceWarning, source=self, stacklevel=2
            )

    def _environment(self) -> Mapping[str, str]:
        """Where the operator's settings come from."""
        return os.environ

    def _search(self, group: str, path: Sequence[str] | None) -> Callable[[], Discovery]:
        """What looks for candidates."""
        return partial(discover, group, path)

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
        return MappingProxyType(dict(self._departures.receipts))

    def add_hookspecs(self, namespace: ModuleType | type) -> None:
        """Add hooks of the application's own; they are called through :attr:`hook`."""
        self._hooks.add_specifications(namespace)

    def register(self, name: str, thing: object, *, fail_open: bool = False) -> None:
        """Register hooks of the application itself: policies, observers.

        :param fail_open: if its ``weighbridge_admit`` raises or is late, that is a warning and not a refusal.
        :raises ConfigurationError: if the name is taken, or an implementation does not fit its specification.
        """
        with self._turn.lock:
            if self._is_a_plugin(name):
                raise ConfigurationError("cannot be registered: a loaded plugin has this name", plugin=name)
            self._hooks.register(name, thing, fail_open=fail_open)
            self._registered.add(name)

    def unregister(self, name: str) -> None:
        """Take back a registration of the application's own.

        :raises ConfigurationError: if `name` is a plugin; unload that.
        """
        with self._turn.lock:
            if self._is_a_plugin(name):
                raise ConfigurationError("is a plugin and cannot be unregistered", plugin=name, advice="Unload it")
            self._hooks.unregister(name)
            self._registered.discard(name)

    def _is_a_plugin(self, name: str) -> bool:
        return name in self._roster and (self._roster[name].is_held or self._roster[name].state is State.DORMANT)

    # --- discovery --------------------------------------------------------------------------------------------------

    def discover(self) -> Discovery:
        """Look for candidates, importing nothing. What is loaded stays as it is, and everything else is seen anew."""
        return self._finder.discover()

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
        return self._finder.find(name).candidate

    def implemented(self, name: str) -> tuple[str, ...]:
        """The hooks that a loaded plugin implements, sorted."""
        return self._hooks.implemented(name)

    # --- admission --------------------------------------------------------------------------------------------------

    @property
    def ceiling_bytes(self) -> int | None:
        """What the process may hold: by the application, or by a lower limit that the system sets; None for no limit.

        Limits of the system count where `memory` is enabled, as they were at the last check.
        """
        return self._ceiling.nbytes

    def budget(self) -> Budget | None:
        """The budget now; None where no ceiling is set."""
        return self._treasurer.budget()

    def command(self, name: str, arguments: Sequence[str], terminal: Terminal) -> int:
        """The exit code of what a loaded plugin does when its command is typed, ``weighbridge <name> ...``.

        :param terminal: where it shows its result.
        :raises NotLoaded: if it is not loaded.
        :raises ConfigurationError: if it has no command, or gives no exit code. What it raises itself comes through.
        """
        if not self._is_a_plugin(name):
            raise NotLoaded("is not loaded", plugin=name, step="command", advice="Load it first")
        return self._hooks.command(name, arguments, terminal)

    def examine(self) -> tuple[tuple[str, Fact], ...]:
        """What loaded plugins say about this machine, each with the plugin's name."""
        return tuple(self._hooks.examine())

    def ask(self, name: str, *, priority: int = 0) -> Verdict:
        """What admission would say to a load now, without loading anything (a dry run)."""
        with self._turn.lock:
            plugin = self._finder.find(name)
            return self._doorkeeper.judge(plugin, priority=priority, defer=False, dry_run=True)[1]

    # --- loading ----------------------------------------------------------------------------------------------------

    def load(self, name: str, *, priority: int = 0, defer: bool = False) -> Account:
        """Admit and load one plugin, and before it the plugins that it requires.

        :param priority: its place in the queue if it is deferred; higher goes first.
        :param defer: queue it instead of refusing it when there is no room.
        :raises WeighbridgeError: nothing of the plugin is left behind then. The class says what happened:
            UnknownPlugin, AlreadyLoaded, PluginBlocked, PluginIncompatible, MissingRequirement, DependencyCycle,
            ConflictingPlugin, AdmissionRefused, AdmissionDeferred, LoadFailed, NestedLoad.
        """
        return self._arrivals.load(name, priority=priority, defer=defer)

    def load_all(self, names: Iterable[str] | None = None, *, strict: bool = False, defer: bool = False) -> LoadReport:
        """Load every candidate, in the order of what they require; what is loaded already is left alone.

        :param names: load only these, and what they require.
        :param strict: raise the first error instead of going on with the next plugin.
        :raises UnknownPlugin: if there is no plugin of one of `names`.
        """
        return self._batch.load(names, strict=strict, defer=defer)

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
        wish = self._departures.wish(
            reason, dependencies=dependencies, seconds=deadline_seconds, verify=verify, cut=cut
        )
        receipt = self._departures.see_out(name, wish, cascade=cascade)
        self._arrivals.retry_deferred()
        return receipt

    async def unload_async(self, name: str, **options: Any) -> Receipt:
        """:meth:`unload` in a thread, while the event loop runs on: calls that it has under way can come to their end.

        :param options: those of :meth:`unload`.
        """
        import asyncio

        return await asyncio.to_thread(self.unload, name, **options)

    def reload(self, name: str) -> Account:
        """Unload a plugin with those that require it, discover anew, and load them again.

        The receipts are in :attr:`receipts`. If the new generation cannot be loaded, the old one is gone all the same.
        A dependent that cannot come back does not stop the others; the first error is raised when all were tried.
        """
        with self._turn.lock:
            receipt = self._departures.see_out(name, self._departures.wish("it is being reloaded"))
            try:
                return self._arrivals.load_again(name, [one.plugin for one in reversed(receipt.also_unloaded)])
            finally:
                self._arrivals.retry_deferred()  # only now, or they would take the place of what is to come back

    def look_again(self) -> tuple[str, ...]:
        """Collect, and check what was stranded once more; the names of plugins that are gone for good by now."""
        return self._departures.collect_and_look()

    def close(self) -> None:
        """Unload everything, the last loaded first, and give back what the host itself holds.

        :raises ExceptionGroup: of what went wrong on the way; nothing was skipped because of it.
        """
        problems: list[WeighbridgeError] = []
        with self._turn.lock:
            if self._watch is not None:
                problems += self._watch.end()
            self._doorkeeper.forget_all()
            problems += self._departures.see_all_out("the host is closing")
            problems += self._services.close()
            self._meter.close()
            self._memory.close()
        if problems:
            raise ExceptionGroup("closing the host went wrong", problems)

    # --- accounts ---------------------------------------------------------------------------------------------------

    def account(self, name: str) -> Account:
        """The account of one plugin that is loaded or stranded, drawn now.

        :raises UnknownPlugin, NotLoaded: if there is nothing to draw.
        """
        plugin = self._finder.find(name)
        if not plugin.is_held and plugin.state is not State.STRANDED:
            raise NotLoaded(f"is not loaded (it is {plugin.state})", plugin=name, step="account")
        return self._bookkeeper.account(plugin)

    def accounts(self) -> Statement:
        """All accounts, and what belongs to nobody, drawn now. Never waits for a load or an unload under way."""
        self._departures.look_unless_busy()
        return self._bookkeeper.statement(self._memory.resident_bytes(), self.budget())

    def check_memory(self) -> MemoryStatistics | None:
        """Look now where the process stands under its ceiling, instead of at the next check, and react to it.

        A check that is under way is waited for, at most 10 seconds. None unless `memory` is enabled.
        """
        if self._watch is None:
            return None
        self._watch.monitor.check(wait_seconds=_CHECK_SECONDS)
        return self._watch.monitor.statistics()

    def statistics(self) -> HostStatistics:
        """What the host has done so far."""
        states = Counter(plugin.state.value for plugin in self._roster.plugins())
        return HostStatistics(
            states=MappingProxyType(dict(states)),
            loads=self._arrivals.loads,
            refusals=self._doorkeeper.refusals,
            failures=self._arrivals.failures + self._dismisser.dismissals,
            unloads=self._departures.unloads,
            stranded=states[State.STRANDED.value],
            hook_errors=self._faults.totals(),
            services=self._services.statistics(),
            reactions=self._relief.reactions,
            memory=self._watch.monitor.statistics() if self._watch is not None else None,
        )


def _is_plugin(roster: Roster, registered: Collection[str], name: str) -> bool:
    return name in roster and name not in registered
