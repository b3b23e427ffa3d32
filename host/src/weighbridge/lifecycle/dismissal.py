"""Dismissing a plugin that failed too often at work: it is told, and stays in its place until it is unloaded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import attrs

from ..hooks import Hooks
from ..reclaim.drain import Drain
from .plugin import Plugin
from .services import Services
from .states import State


@attrs.define
class Dismisser:
    """Takes failing plugins out of service."""

    hooks: Hooks
    services: Services
    moved: Callable[[Plugin, State, str], None]
    drain_seconds: float

    def wait(self, name: str) -> list[str]:
        """Wait for calls that reached `name` before it was out; who is still inside at the deadline, as lines."""
        # a hook call is recognised by its caller, so the namespaces of the plugin are not needed
        drain = Drain(
            (),
            self.hooks.callers_of(name),
            self.services.thread_idents(),
            is_calling=partial(self.hooks.is_calling, name),
        )
        return drain.wait(self.drain_seconds)

    def dismiss(self, plugin: Plugin, reason: str) -> None:
        """Unregister an active plugin and deactivate it. What it holds stays on its account, leases included."""
        try:
            self.hooks.dismiss(plugin.name, reason)
        finally:
            self.moved(plugin, State.FAILED, reason)
