"""Every plugin that is known, by name, and how they depend on each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from weighbridge_hookspecs import (
    API_VERSION,
    Candidate,
    DiscoveryError,
    MissingRequirement,
    UnknownPlugin,
    WeighbridgeError,
)

from ..discovery.candidates import Discovery
from ..discovery.nearest import did_you_mean
from ..discovery.order import LoadOrder, order
from .plugin import Plugin
from .states import HELD, State

E = TypeVar("E", bound=WeighbridgeError)


class Roster:
    """The plugins of one host. ``discovered`` is false until somebody looked."""

    def __init__(self) -> None:
        self._plugins: dict[str, Plugin] = {}
        self._problems: tuple[DiscoveryError, ...] = ()
        self._order = LoadOrder((), {})
        self.discovered = False

    def __getitem__(self, name: str) -> Plugin:
        return self._plugins[name]

    def __contains__(self, name: str) -> bool:
        return name in self._plugins

    def plugins(self) -> list[Plugin]:
        """All of them, by name."""
        plugins = self._plugins  # another thread may discover meanwhile, which replaces the whole
        return [plugins[name] for name in sorted(plugins)]

    def held(self) -> list[Plugin]:
        """Those that occupy a place, in no order: every decision asks for them."""
        return [plugin for plugin in list(self._plugins.values()) if plugin.is_held]

    def active(self) -> list[Plugin]:
        """Those that are loaded, in the order in which they were."""
        return sorted(self.held(), key=lambda plugin: plugin.load_number)

    def in_order(self) -> list[Plugin]:
        """All of them, each after what it requires; at the end those for which that is not possible."""
        ordered = [self._plugins[candidate.name] for candidate in self._order.candidates]
        return ordered + [plugin for plugin in self.plugins() if plugin not in ordered]

    def find(self, name: str, group: str) -> Plugin:
        """The plugin of that name.

        :raises DiscoveryError: if there is none; what is wrong with it if something is known, else the nearest name.
        """
        if name in self._plugins:
            return self._plugins[name]
        for problem in self.problems:
            if problem.plugin == name:
                raise problem
        raise UnknownPlugin(
            f"no plugin is called {name!r} in the group {group!r}{did_you_mean(name, self._plugins)}",
            step="discover",
            advice=None if self._plugins else "None is installed at all",
        )

    def update(self, found: Discovery, *, blocked: Callable[[str], str | None]) -> None:
        """Take over what was discovered. A plugin that is loaded keeps its candidate until it is reloaded."""
        keep = {State.STRANDED, State.DEFERRED, State.DORMANT}
        plugins = {
            name: plugin
            for name, plugin in self._plugins.items()
            if plugin.state in keep or plugin.is_held or plugin.is_left_behind
        }
        for candidate in found.candidates:
            plugin = plugins.setdefault(candidate.name, Plugin(candidate))
            if not plugin.is_held:
                plugin.candidate = candidate
        self._order = order(plugin.candidate for plugin in plugins.values())
        for plugin in plugins.values():
            if plugin.state is State.DISCOVERED:
                self._classify(plugin, blocked(plugin.name))
        self._plugins, self._problems, self.discovered = plugins, found.problems, True

    def _classify(self, plugin: Plugin, pattern: str | None) -> None:
        manifest = plugin.candidate.manifest
        if pattern is not None:
            plugin.move(State.BLOCKED, f"disabled by {pattern!r}", retryable=False)
        elif manifest is not None and manifest.api != API_VERSION:
            reason = f"written for version {manifest.api} of the contract; this host has version {API_VERSION}"
            plugin.move(State.INCOMPATIBLE, reason, retryable=False)
        elif plugin.name in self._order.unresolved:
            plugin.move(State.UNRESOLVED, self._order.unresolved[plugin.name].message)

    @property
    def problems(self) -> tuple[DiscoveryError, ...]:
        """What is wrong with what is installed."""
        return tuple(_copy(problem) for problem in self._problems)

    def is_unresolved(self, plugin: Plugin) -> bool:
        """Whether something that `plugin` requires is not there, or in a ring."""
        return plugin.name in self._order.unresolved

    def requirements(self, plugin: Plugin) -> list[Plugin]:
        """Every plugin that has to be active before `plugin`, in the order in which to load them.

        :raises DependencyError: if one of them is not there, or they form a ring.
        """
        if self.is_unresolved(plugin):
            raise _copy(self._order.unresolved[plugin.name])
        wanted: set[str] = set()
        waiting = list(_requires(plugin.candidate))
        while waiting:
            name = waiting.pop()
            if name not in wanted:
                wanted.add(name)
                waiting.extend(_requires(self._plugins[name].candidate))
        return [self._plugins[candidate.name] for candidate in self._order.candidates if candidate.name in wanted]

    def check_requirements(self, plugin: Plugin) -> list[Plugin]:
        """Those of its requirements that sleep, and are to be loaded first; the others are active.

        :raises DependencyError: names the first that is neither.
        """
        asleep = []
        for required in self.requirements(plugin):
            if required.state is State.DORMANT:
                asleep.append(required)
            elif required.state not in HELD:
                raise MissingRequirement(
                    f"requires {required.name!r}, which is {required.state}",
                    plugin=plugin.name,
                    step="load",
                    advice=f"Load {required.name} first",
                )
        return asleep

    def conflict(self, plugin: Plugin) -> str | None:
        """The name of a loaded plugin that must not be active together with `plugin`, by the manifest of either."""
        for other in self.active():
            if other.name in _conflicts(plugin.candidate) or plugin.name in _conflicts(other.candidate):
                return other.name
        return None

    def neighbours(self, plugin: Plugin) -> list[str]:
        """The modules of other loaded plugins that live in the same package as `plugin`."""
        return [other.module for other in self.held() if other.own == plugin.own and other is not plugin]

    def dependents(self, plugin: Plugin) -> list[Plugin]:
        """Loaded plugins that require `plugin`, directly or not, in the order in which to unload them."""
        found = {plugin.name}
        dependents = []
        for other in self.active():
            if found.intersection(_requires(other.candidate)):
                found.add(other.name)
                dependents.append(other)
        return dependents[::-1]


def _copy(error: E) -> E:
    """A fresh error to raise: one that is kept would gather the traceback of every raise."""
    copy = type(error)(error.message)
    copy.__dict__.update(error.__dict__)
    return copy


def _requires(candidate: Candidate) -> Sequence[str]:
    return candidate.manifest.requires if candidate.manifest else ()


def _conflicts(candidate: Candidate) -> Sequence[str]:
    return candidate.manifest.conflicts if candidate.manifest else ()
