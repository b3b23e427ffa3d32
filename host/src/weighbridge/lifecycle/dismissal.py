"""Dismissing a plugin that failed too often at work: it is told, and stays in its place until it is unloaded."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Final

from ..containment import Faults, Overdraft
from ..hooks import Hooks
from ..reclaim.drain import Drain
from .plugin import Plugin
from .roster import Roster
from .services import Services
from .states import State
from .turn import Turn

_log: Final = logging.getLogger("weighbridge.host")


class Dismisser:
    """Takes failing plugins out of service.

    :ivar faults: where their faults are counted; a weak reference, for this is told from there of those that are out.
    :ivar dismissals: how many were dismissed so far.
    """

    def __init__(
        self,
        turn: Turn,
        roster: Roster,
        faults: weakref.ref[Faults],
        hooks: Hooks,
        services: Services,
        moved: Callable[[Plugin, State, str], None],
        drain_seconds: float,
    ) -> None:
        self.turn = turn
        self.roster = roster
        self.faults = faults
        self.hooks = hooks
        self.services = services
        self.moved = moved
        self.drain_seconds = drain_seconds
        self.dismissals = 0

    def begin(self, overdraft: Overdraft) -> None:
        """Dismiss a plugin in a thread that nobody waits for.

        The one that made the failing call may hold locks of the application's, and so may whoever has the turn.
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
        inside = self._wait(name)
        with self.turn.of(name, "dismiss"):
            if (plugin := self._still_there(overdraft)) is None:
                return
            _log.error("%s is dismissed: %s", name, reason)
            if inside:
                _log.warning("%s is dismissed with calls under way: %s", name, "; ".join(inside))
            self.dismissals += 1
            self._take_out(plugin, reason)

    def _wait(self, name: str) -> list[str]:
        """Wait for calls that reached `name` before it was out; who is still inside at the deadline, as lines."""
        # a hook call is recognised by its caller, so the namespaces of the plugin are not needed
        drain = Drain(
            (),
            self.hooks.callers_of(name),
            self.services.thread_idents(),
            is_calling=partial(self.hooks.is_calling, name),
        )
        return drain.wait(self.drain_seconds)

    def _still_there(self, overdraft: Overdraft) -> Plugin | None:
        """The plugin, unless it was unloaded meanwhile: then another generation of it may have been loaded."""
        faults = self.faults()
        if faults is None or overdraft.name not in self.roster or not faults.is_current(overdraft):
            return None
        plugin = self.roster[overdraft.name]
        return plugin if plugin.state is State.ACTIVE else None

    def _take_out(self, plugin: Plugin, reason: str) -> None:
        """Unregister an active plugin and deactivate it. What it holds stays on its account, leases included."""
        try:
            self.hooks.dismiss(plugin.name, reason)
        finally:
            self.moved(plugin, State.FAILED, reason)
