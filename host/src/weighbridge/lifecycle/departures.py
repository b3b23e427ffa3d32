"""Departures: plugins go, those that require them first; and a later look at what had to stay."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Final, get_args

import attrs
from weighbridge_hookspecs import CleanupFailed, ConfigurationError, NotLoaded, UnloadRefused, WeighbridgeError

from ..hooks import Hooks
from ..reclaim.receipt import Receipt, Verify
from ..reclaim.ties.tie import Cut
from .course import Wish
from .finder import Finder
from .plugin import Plugin
from .roster import Roster
from .states import State
from .turn import Turn
from .unloading import Unloader
from .words import in_words


class Departures:
    """Sees plugins out.

    :ivar deadline_seconds: for an unload that names no other.
    :ivar receipts: the last one of every plugin that was unloaded.
    :ivar unloads: how many were unloaded so far.
    """

    def __init__(
        self,
        turn: Turn,
        finder: Finder,
        roster: Roster,
        unloader: Unloader,
        hooks: Hooks,
        moved: Callable[[Plugin, State, str], None],
        deadline_seconds: float,
    ) -> None:
        self.turn = turn
        self.finder = finder
        self.roster = roster
        self.unloader = unloader
        self.hooks = hooks
        self.moved = moved
        self.deadline_seconds = deadline_seconds
        self.receipts: Final[dict[str, Receipt]] = {}
        self.unloads = 0

    def wish(
        self,
        reason: str,
        *,
        dependencies: bool = False,
        seconds: float | None = None,
        verify: Verify = "full",
        cut: Cut = "safe",
        vetoes: bool = True,
    ) -> Wish:
        """How somebody wants a plugin to be unloaded.

        :raises ConfigurationError: if there is no such way.
        """
        for setting, value, legal in (("verify", verify, get_args(Verify)), ("cut", cut, get_args(Cut))):
            if value not in legal:
                raise ConfigurationError(
                    f"{setting}={value!r} makes no sense", step="unload", advice=f"Take one of: {', '.join(legal)}"
                )
        wait = self.deadline_seconds if seconds is None else seconds
        return Wish(reason=reason, dependencies=dependencies, seconds=wait, verify=verify, cut=cut, vetoes=vetoes)

    def see_out(self, name: str, wish: Wish, *, cascade: bool = True) -> Receipt:
        """Unload one plugin, and before it those that require it.

        :param cascade: otherwise those are a reason to refuse.
        :raises UnknownPlugin, NotLoaded, UnloadRefused, UnloadTimeout: the plugin is as it was before.
        """
        with self.turn.of(name, "unload"):
            plugin = self.finder.find(name)
            if plugin.state is not State.ACTIVE and not plugin.has_failed_at_work:
                raise NotLoaded(f"is not loaded (it is {plugin.state})", plugin=name, step="unload")
            dependents = self.roster.dependents(plugin)
            if dependents and not cascade:
                names = ", ".join(one.name for one in dependents)
                raise UnloadRefused(f"is required by {names}", plugin=name, step="unload", advice="Unload those first")
            along = attrs.evolve(wish, reason=f"{name}, which it requires, is being unloaded")
            for one in (*dependents, plugin):
                self.unloader.ask(one, wish if one is plugin else along)
            first = tuple(self._unload(one, along, ()) for one in dependents)
            return self._unload(plugin, wish, first)

    def _unload(self, plugin: Plugin, wish: Wish, first: tuple[Receipt, ...]) -> Receipt:
        receipt = self.unloader.unload(plugin, wish, first)
        self.unloads += 1
        self.receipts[plugin.name] = receipt
        return receipt

    def see_all_out(self, reason: str) -> list[WeighbridgeError]:
        """Unload everything, the last loaded first, whoever objects; what went wrong on the way."""
        problems: list[WeighbridgeError] = []
        for plugin in self.roster.plugins():
            if plugin.state is State.DORMANT:
                self.hooks.unregister(plugin.name)
                self.moved(plugin, State.UNLOADED, reason)
        for plugin in reversed(self.roster.active()):
            if plugin.state is State.ACTIVE or plugin.has_failed_at_work:
                problems += self._see_out_for_good(plugin, reason)
        return problems

    def _see_out_for_good(self, plugin: Plugin, reason: str) -> list[WeighbridgeError]:
        """Unload one plugin, whoever objects; what went wrong."""
        try:
            receipt = self.see_out(plugin.name, self.wish(reason, vetoes=False))
        except WeighbridgeError as error:
            return [error]
        except Exception as error:  # no memory, say: the others and the services go all the same
            return [CleanupFailed(in_words(error), plugin=plugin.name, step="unload")]
        receipts = (*receipt.also_unloaded, receipt)
        return [CleanupFailed(line, plugin=one.plugin, step="unload") for one in receipts for line in one.failures]

    # --- what had to stay -------------------------------------------------------------------------------------------

    def collect_and_look(self) -> tuple[str, ...]:
        """Collect if something is stranded, and look; the names of plugins that are gone for good by now."""
        with self.turn.lock:
            if any(plugin.stranded for plugin in self.roster.plugins()):
                gc.collect()
            return self._look()

    def look_unless_busy(self) -> None:
        """Look without collecting, unless a load or an unload is under way in another thread."""
        if self.turn.lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self.turn.lock.release()

    def _look(self) -> tuple[str, ...]:
        gone = [plugin for plugin in self.roster.plugins() if plugin.look_again() and plugin.state is State.STRANDED]
        for plugin in gone:
            self.moved(plugin, State.UNLOADED, "what had outlived it is gone")
        return tuple(plugin.name for plugin in gone)
