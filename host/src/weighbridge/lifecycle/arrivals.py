"""Arrivals: plugins come in, after those that they require; at once, when there is room, or at their first call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from weighbridge_hookspecs import AdmissionRefused, AlreadyLoaded, LoadFailed, MissingRequirement, WeighbridgeError

from ..accounting.account import Account
from ..hooks import Hooks
from .admitting import Doorkeeper
from .bookkeeping import Bookkeeper
from .dormant import make_stub, may_sleep
from .eligibility import Eligibility
from .finder import Finder
from .loading import Loader
from .plugin import Plugin
from .roster import Roster
from .states import HELD, State
from .turn import Turn

_log: Final = logging.getLogger("weighbridge.host")


class Arrivals:
    """Sees plugins in.

    :ivar loads: how many came in so far.
    :ivar failures: how many were admitted, and could not be loaded.
    """

    def __init__(
        self,
        turn: Turn,
        finder: Finder,
        roster: Roster,
        eligibility: Eligibility,
        doorkeeper: Doorkeeper,
        loader: Loader,
        bookkeeper: Bookkeeper,
        hooks: Hooks,
        moved: Callable[[Plugin, State, str], None],
    ) -> None:
        self.turn = turn
        self.finder = finder
        self.roster = roster
        self.eligibility = eligibility
        self.doorkeeper = doorkeeper
        self.loader = loader
        self.bookkeeper = bookkeeper
        self.hooks = hooks
        self.moved = moved
        self.loads = 0
        self.failures = 0

    def load(self, name: str, *, priority: int = 0, defer: bool = False) -> Account:
        """Load one plugin, and before it the plugins that it requires, those that sleep among them.

        :raises WeighbridgeError: nothing of the plugin is left behind then.
        """
        with self.turn.of(name, "load"):
            plugin = self.finder.find(name)
            if plugin.state in HELD:
                raise AlreadyLoaded("is loaded already", plugin=name, step="load", advice="Reload it to see changes")
            self.eligibility.check(plugin)
            for required in self.roster.requirements(plugin):
                if required.state not in HELD:
                    self._load_required(plugin, required)
            self._load(plugin, priority=priority, defer=defer)
            return self.bookkeeper.account(plugin)

    def load_in_order(self, plugin: Plugin, *, defer: bool) -> tuple[str, ...] | None:
        """Load one plugin of many, after those that it requires were tried.

        :returns: the warnings of the policies; None if it sleeps until its first call.
        :raises WeighbridgeError: nothing of the plugin is left behind then.
        """
        with self.turn.of(plugin.name, "load"):
            self.eligibility.check(plugin)
            asleep = self.roster.check_requirements(plugin)
            if self._doze(plugin):
                return None
            for required in asleep:
                self._load_required(plugin, required)
            return self._load(plugin, priority=0, defer=defer)

    def load_again(self, name: str, dependents: Iterable[str]) -> Account:
        """Discover anew, and load a plugin and those that require it, as far as they are not loaded by then.

        :raises WeighbridgeError: if the plugin cannot be loaded; else the first error, when all dependents were tried.
        """
        self.finder.discover()
        account = self.load(name)
        problems: list[WeighbridgeError] = []
        for dependent in dependents:
            try:
                if self.finder.find(dependent).state not in HELD:  # another one may have required it
                    self.load(dependent)
            except WeighbridgeError as error:
                problems.append(error)
        if problems:
            raise problems[0]
        return account

    def retry_deferred(self) -> None:
        """Load what was deferred and fits by now, by priority, then by age."""
        for name, priority in self.doorkeeper.waiting():
            with self.turn.lock:
                self._retry(name, priority)

    def _retry(self, name: str, priority: int) -> None:
        if not self.doorkeeper.is_waiting(name):  # another thread has loaded it meanwhile, or has closed the host
            return
        if self.roster[name].state is not State.DEFERRED:
            self.doorkeeper.forget(name)
            return
        try:
            self.load(name, priority=priority, defer=True)
        except WeighbridgeError:
            return  # its state keeps the reason, and observers were told

    # --- one of them ------------------------------------------------------------------------------------------------

    def _load_required(self, plugin: Plugin, required: Plugin) -> None:
        asleep = plugin.state is State.DORMANT
        try:
            self._load(required, priority=0, defer=False)
        except WeighbridgeError as error:
            reason = f"requires {required.name!r}, which could not be loaded: {error}"
            self.moved(plugin, State.UNRESOLVED, reason)
            self._sleep_on(plugin, asleep)
            problem = MissingRequirement(reason, plugin=plugin.name, step="load")
        else:
            return
        raise problem

    def _load(self, plugin: Plugin, *, priority: int, defer: bool) -> tuple[str, ...]:
        self.eligibility.check(plugin)
        asleep = plugin.state is State.DORMANT
        try:
            noted = self.doorkeeper.admit(plugin, priority=priority, defer=defer)
            self.loader.load(plugin)
        except AdmissionRefused:
            self._sleep_on(plugin, asleep)
            raise
        except BaseException as error:
            self._fail(plugin, error)
            raise
        self.loads += 1
        plugin.load_number = self.loads
        self.doorkeeper.forget(plugin.name)
        self.moved(plugin, State.ACTIVE, "")
        return noted

    def _fail(self, plugin: Plugin, error: BaseException) -> None:
        """Give up the place that a plugin had taken, if it had."""
        if plugin.state not in HELD:
            return
        self.hooks.unregister(plugin.name)
        self.doorkeeper.forget(plugin.name)
        self.failures += 1
        self.moved(plugin, State.FAILED, error.message if isinstance(error, LoadFailed) else "interrupted")

    # --- those that sleep -------------------------------------------------------------------------------------------

    def _doze(self, plugin: Plugin) -> bool:
        """Let a plugin sleep until its first call, if its manifest says so; whether it does."""
        names = may_sleep(plugin, self.hooks.relay)
        if not names:
            return False
        self.moved(plugin, State.DORMANT, f"until the first call of {', '.join(names)}")
        stub = make_stub(names, self.hooks.relay, lambda hook, arguments: self._wake(plugin, hook, arguments))
        self.hooks.register(plugin.name, stub)
        return True

    def _wake(self, plugin: Plugin, hook: str, arguments: Mapping[str, Any]) -> Any:
        """The first call of a sleeping plugin: load it, and pass the call on. None if it cannot be loaded now."""
        with self.turn.lock:
            if plugin.state not in HELD | {State.FAILED}:  # refused last time: there may be room now
                try:
                    self.load(plugin.name)
                except WeighbridgeError as error:
                    _log.error("%s could not be woken by %s: %s", plugin.name, hook, error)
        call = self.hooks.bound(plugin.name, hook, **arguments) if plugin.state is State.ACTIVE else None
        return call() if call is not None else None

    def _sleep_on(self, plugin: Plugin, asleep: bool) -> None:
        """Whoever slept before it could not be woken sleeps on, and the next call asks again."""
        if asleep:
            self.moved(plugin, State.DORMANT, plugin.reason)
