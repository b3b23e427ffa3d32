"""Finding plugins: what is known, and a look around when nobody has looked yet."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase

from ..discovery.candidates import Discovery
from .plugin import Plugin
from .roster import Roster
from .turn import Turn


class Finder:
    """Keeps the roster up to date with what is installed.

    :ivar look: where candidates come from.
    :ivar disabled: names or globs of plugins that must not be loaded.
    """

    def __init__(
        self,
        group: str,
        look: Callable[[], Discovery],
        disabled: tuple[str, ...],
        roster: Roster,
        turn: Turn,
    ) -> None:
        self.group = group
        self.look = look
        self.disabled = disabled
        self.roster = roster
        self.turn = turn

    def discover(self) -> Discovery:
        """Look for candidates. What is loaded stays as it is, and everything else is seen anew."""
        with self.turn.lock:
            found = self.look()
            self.roster.update(found, blocked=self._pattern)
            return found

    def discover_once(self) -> None:
        """The same, unless somebody has looked."""
        if not self.roster.discovered:
            self.discover()

    def find(self, name: str) -> Plugin:
        """The plugin of that name.

        :raises DiscoveryError: if there is none.
        """
        self.discover_once()
        return self.roster.find(name, self.group)

    def _pattern(self, name: str) -> str | None:
        """The pattern by which a plugin is disabled, if it is."""
        return next((glob for glob in self.disabled if fnmatchcase(name, glob)), None)
