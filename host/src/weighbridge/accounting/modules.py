"""The books on modules: who brought each of them in, and who uses it.

A module that two plugins use is shared: it is on the books once, under neither of them, and it goes when the last of
them has gone. A module that was to go and cannot stays on the account of the plugin that left it behind; whoever uses
it later is not charged for it again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

import attrs

from .compiled import is_extension
from .departure import DECLARED, Departure, Idle, Stay, staying
from .imports import ModuleWeight
from .ownership import Kind, Ownership, classify
from .references import is_module, real_name, referenced
from .tasks import Tasks

__all__ = ["Departure", "ModuleBooks", "Split", "is_module", "referenced"]


@attrs.define
class _Entry:
    weight: ModuleWeight
    brought_by: str | None
    """None once that load is over: a later load of the same plugin has not brought it. None, too, for what the host has
    imported for itself."""
    kind: Kind
    group: str
    users: set[str]
    threads: frozenset[int]
    """Threads that Python does not know, and that came with the same load."""
    left_by: str | None = None
    """The plugin that went without it, though it was to go: it is charged for it for good."""


def _sum(figures: Iterable[int | None]) -> int | None:
    """The sum of what was measured; None if something was to be measured and nothing was."""
    every = list(figures)
    measured = [figure for figure in every if figure is not None]
    return sum(measured) if measured or not every else None


@attrs.frozen(kw_only=True)
class Split:
    """How the modules that one plugin uses are to be charged."""

    modules: int
    shared_bytes: int
    """Used by others too."""
    shared_brought_bytes: int
    """Of those, what this plugin's own load brought in, and is therefore in its weighing."""
    stdlib_bytes: int
    """Of the standard library, brought in by its load."""
    adopted_bytes: int
    """Brought in by another plugin's load, and used by this one alone by now."""
    left_bytes: int = 0
    """Charged already, to whoever left them behind; this one alone uses them by now."""


class ModuleBooks:
    """Every module that a load has brought in and that is still there."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def enter(
        self,
        plugin: str,
        weights: Iterable[ModuleWeight],
        ownership: Ownership,
        threads: frozenset[int] = frozenset(),
    ) -> None:
        """Put on the books what the load of `plugin` brought in, and what else on the books it uses.

        :param ownership: whose modules are whose.
        :param threads: that Python does not know and that came with the load, by :class:`Tasks`.
        """
        brought = list(weights)
        for weight in brought:
            name = weight.name
            real = real_name(name)
            kind, group = ownership.kind(real), ownership.group(real)
            is_ours = weight.by_host and kind == "stdlib"
            users: set[str] = set() if is_ours else {plugin}
            self._entries[name] = _Entry(weight, None if is_ours else plugin, kind, group, users, threads)
        # not all of its distribution: another plugin of it, in another package, is no business of this one
        already = (name for name in list(self._entries) if classify(name, ownership.package) == "own")
        for name in self._reach([*already, *(weight.name for weight in brought if not weight.by_host)]):
            self._entries[name].users.add(plugin)

    def _reach(self, names: Iterable[str]) -> set[str]:
        """Everything on the books that can be reached from the modules called `names`."""
        reached: set[str] = set()
        waiting = [name for name in names if name in self._entries]
        while waiting:
            name = waiting.pop()
            if name in reached:
                continue
            reached.add(name)
            module = sys.modules.get(name)
            if is_module(module):
                waiting.extend(other for other in referenced(module) if self._uses(name, other))
        return reached

    def _uses(self, name: str, other: str) -> bool:
        """Whether a reference is a use: what the standard library holds of a plugin was put there."""
        entries = self._entries
        return other in entries and (entries[name].kind != "stdlib" or entries[other].kind == "stdlib")

    def of(self, plugin: str) -> tuple[tuple[ModuleWeight, Kind, bool], ...]:
        """What `plugin` uses: the weight, the kind, and whether others use it too."""
        return tuple(
            (entry.weight, entry.kind, len(entry.users) > 1)
            for entry in list(self._entries.values())
            if plugin in entry.users
        )

    def split(self, plugin: str) -> Split:
        """How the modules that `plugin` uses are to be charged."""
        modules = shared = brought = stdlib = adopted = left = 0
        for entry in list(self._entries.values()):
            if plugin not in entry.users:
                continue
            nbytes = entry.weight.traced_bytes or 0
            modules += entry.kind != "stdlib"
            if entry.kind == "stdlib":
                stdlib += nbytes if entry.brought_by == plugin else 0
            elif entry.left_by is not None:
                left += nbytes if len(entry.users) == 1 else 0
            elif len(entry.users) > 1:
                shared += nbytes
                brought += nbytes if entry.brought_by == plugin else 0
            elif entry.brought_by != plugin:
                adopted += nbytes
        return Split(
            modules=modules,
            shared_bytes=shared,
            shared_brought_bytes=brought,
            stdlib_bytes=stdlib,
            adopted_bytes=adopted,
            left_bytes=left,
        )

    def shared_bytes(self) -> int | None:
        """Traced bytes of modules that several plugins use, or that nobody uses any more; None if not measured."""
        return _sum(entry.weight.traced_bytes for entry in list(self._entries.values()) if self._is_shared(entry))

    def stdlib_bytes(self) -> int | None:
        """Traced bytes of modules of the standard library that came with plugins; None if not measured."""
        return _sum(entry.weight.traced_bytes for entry in list(self._entries.values()) if entry.kind == "stdlib")

    @staticmethod
    def _is_shared(entry: _Entry) -> bool:
        return len(entry.users) != 1 and entry.kind != "stdlib" and entry.left_by is None

    def leave(self, plugin: str, *, dependencies: bool, drop: bool = True) -> Departure:
        """Strike `plugin` off, and tell which modules may be dropped from ``sys.modules`` now; those are off the books.

        Modules of the standard library stay, so do those that others use, and what has a compiled module that cannot
        be loaded twice. Dependencies go only if asked, and if nothing outside refers to them. With `drop` false nothing
        goes. What has left ``sys.modules`` already is among those that may be dropped: it has to die, too.
        """
        mine = [name for name, entry in list(self._entries.items()) if plugin in entry.users and entry.kind != "stdlib"]
        for entry in list(self._entries.values()):
            entry.users.discard(plugin)
        idle = self._idle(plugin)
        gone = [name for name in idle if name not in sys.modules]
        for name in gone:
            del idle[name]
        used = self._used()
        stays = staying(idle, used, dependencies=dependencies) if drop else dict.fromkeys(idle, DECLARED)
        dropped = (*gone, *(name for name in list(sys.modules) if name in idle and name not in stays))
        kept = {name: stays.get(name) or self._shared(name) for name in mine if name not in dropped}
        departure = self._departure(plugin, dropped, kept)
        self._settle(plugin, departure)
        return departure

    def _idle(self, plugin: str) -> dict[str, Idle]:
        """What nobody uses any more, but for what others left behind: that stays."""
        running = Tasks.now().unknown if any(entry.threads for entry in list(self._entries.values())) else frozenset()
        return {
            name: Idle(entry.kind, entry.group, len(entry.threads & running) if self._is_compiled(name) else 0)
            for name, entry in list(self._entries.items())
            if not entry.users and entry.kind != "stdlib" and entry.left_by in (None, plugin)
        }

    @staticmethod
    def _is_compiled(name: str) -> bool:
        return is_extension(sys.modules.get(name))

    def _used(self) -> dict[str, str]:
        """Groups of which something is in use, with one who uses it."""
        entries = [entry for entry in list(self._entries.values()) if entry.users and entry.kind != "stdlib"]
        return {entry.group: min(entry.users) for entry in entries}

    def _shared(self, name: str) -> Stay:
        entry = self._entries[name]
        users = ", ".join(sorted(entry.users))
        return Stay("shared", f"with {users}" if users else f"with {entry.left_by}, which left it behind")

    def _departure(self, plugin: str, dropped: tuple[str, ...], kept: Mapping[str, Stay]) -> Departure:
        brought = {name for name, entry in list(self._entries.items()) if entry.brought_by == plugin}
        stuck = {name for name, stay in kept.items() if stay.is_failure}
        excused = self.traced_bytes(brought - set(dropped) - stuck) - self.traced_bytes(set(dropped) - brought)
        return Departure(
            dropped=dropped,
            kept=kept,
            excused_bytes=excused,
            stdlib_bytes=self._measured(name for name in brought if self._entries[name].kind == "stdlib"),
            stuck_bytes=self._measured(brought & stuck),
        )

    def _settle(self, plugin: str, departure: Departure) -> None:
        """What goes is off the books; what cannot go is charged to `plugin` for good."""
        for name in departure.dropped:
            del self._entries[name]
        for name, stay in departure.kept.items():
            if stay.is_failure:
                self._entries[name].left_by = plugin
        for entry in list(self._entries.values()):
            if entry.brought_by == plugin:
                entry.brought_by = None

    def _measured(self, names: Iterable[str]) -> int | None:
        return _sum(self._entries[name].weight.traced_bytes for name in names)

    def traced_bytes(self, names: Iterable[str]) -> int:
        """What the modules called `names` weigh together, as far as it was measured."""
        return sum(self._entries[name].weight.traced_bytes or 0 for name in names if name in self._entries)

    def files(self) -> dict[str, set[str]]:
        """File name to the plugins that use the module."""
        return {
            entry.weight.file: set(entry.users)
            for entry in list(self._entries.values())
            if entry.weight.file and entry.kind != "stdlib" and (entry.users or entry.left_by is None)
        }
