"""Whether a plugin may be loaded at all, room or not."""

from __future__ import annotations

from collections.abc import Collection

from weighbridge_hookspecs import (
    AlreadyLoaded,
    ConfigurationError,
    ConflictingPlugin,
    PluginBlocked,
    PluginIncompatible,
)

from .loading import Loader
from .plugin import Plugin
from .roster import Roster
from .states import State


class Eligibility:
    """Checks what does not depend on memory.

    :ivar registered: names that the application has taken for its own hooks.
    """

    def __init__(self, roster: Roster, loader: Loader, registered: Collection[str]) -> None:
        self.roster = roster
        self.loader = loader
        self.registered = registered

    def check(self, plugin: Plugin) -> None:
        """See to it that nothing speaks against a load.

        :raises PluginBlocked, PluginIncompatible, ConfigurationError, AlreadyLoaded, ConflictingPlugin: what does.
        """
        self._check_candidate(plugin)
        self._check_name(plugin)
        self._check_remnant(plugin)
        if (other := self.roster.conflict(plugin)) is not None:
            raise ConflictingPlugin(
                f"conflicts with {other!r}, which is loaded", plugin=plugin.name, step="load", advice=f"Unload {other}"
            )

    def _check_candidate(self, plugin: Plugin) -> None:
        if plugin.state is State.BLOCKED:
            raise PluginBlocked(f"is {plugin.reason}", plugin=plugin.name, step="load")
        if plugin.state is State.INCOMPATIBLE:
            raise PluginIncompatible(
                plugin.reason, plugin=plugin.name, step="load", advice="Install a matching version"
            )

    def _check_name(self, plugin: Plugin) -> None:
        if plugin.name in self.registered:
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

    def _check_remnant(self, plugin: Plugin) -> None:
        if (remnant := self.loader.remnant(plugin)) is None:
            return
        version, module = remnant
        raise PluginIncompatible(
            f"version {version} cannot leave this process whole, because of {module}, "
            f"and version {plugin.candidate.version} would meet what is left",
            plugin=plugin.name,
            step="load",
            advice=f"Restart the process to load version {plugin.candidate.version}",
        )
