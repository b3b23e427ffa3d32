"""The order in which plugins can be loaded: what a plugin requires comes before it, and so does what it comes after."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush

import attrs
from weighbridge_hookspecs.errors import DependencyCycle, DependencyError, MissingRequirement
from weighbridge_hookspecs.records import Candidate, Manifest

from .nearest import nearest


@attrs.frozen
class LoadOrder:
    """What :func:`order` found out. Each plugin is in one of the two."""

    candidates: tuple[Candidate, ...]
    """Those that can be loaded, each after everything it requires."""
    unresolved: Mapping[str, DependencyError]
    """Why each of the others cannot, by name."""


@attrs.frozen
class _Cause:
    """Why a plugin cannot be loaded: the plugin where the trouble starts, and the requirement that leads there."""

    root: str
    reason: str
    advice: str
    via: str | None = None
    ring: tuple[str, ...] = ()

    def error(self, plugin: str) -> DependencyError:
        if self.via is None and self.ring:
            return DependencyCycle(self.reason, plugin=plugin, ring=self.ring)
        message = self.reason
        if self.via is not None:
            link = "" if self.via == self.root else f"cannot be loaded: {self.root!r} "
            message = f"requires {self.via!r}, which {link}{self.reason}"
        return MissingRequirement(message, plugin=plugin, step="order", advice=self.advice)


def order(candidates: Iterable[Candidate]) -> LoadOrder:
    """Sort plugins by what they require and what they come after; where that leaves a choice, by name.

    A plugin that requires one which is not there, or which is in a ring, is unresolved, and so are those that require
    it. A plugin to come ``after`` that is not there, or that is unresolved, is no obstacle.
    """
    plugins = _by_name(candidates)
    requires = {name: _manifest(candidate).requires for name, candidate in plugins.items()}
    causes = {name: _absent(name, requires) for name in sorted(plugins) if set(requires[name]) - plugins.keys()}
    _spread(causes, requires)
    edges = {
        name: {other for other in (*requires[name], *_manifest(candidate).after) if other in plugins} - causes.keys()
        for name, candidate in plugins.items()
        if name not in causes
    }
    causes |= _rings(edges)
    _spread(causes, requires)
    edges = {name: others - causes.keys() for name, others in edges.items() if name not in causes}
    unresolved = {name: causes[name].error(name) for name in sorted(causes)}
    return LoadOrder(tuple(plugins[name] for name in _sorted(edges)), unresolved)


def _by_name(candidates: Iterable[Candidate]) -> dict[str, Candidate]:
    plugins: dict[str, Candidate] = {}
    for candidate in candidates:
        if plugins.setdefault(candidate.name, candidate) is not candidate:
            raise ValueError(f"two candidates are called {candidate.name!r}: give each name once")
    return plugins


def _manifest(candidate: Candidate) -> Manifest:
    return candidate.manifest or Manifest()


def _absent(name: str, requires: Mapping[str, tuple[str, ...]]) -> _Cause:
    absent = [other for other in dict.fromkeys(requires[name]) if other not in requires]
    meant = [near for near in (nearest(other, requires.keys() - {name}) for other in absent) if near is not None]
    named = " and ".join(map(repr, absent))
    advice = f"Install what offers {named}, or correct plugin.requires"
    if meant:
        advice += f" (did you mean {' and '.join(map(repr, meant))}?)"
    return _Cause(name, f"requires {named}, which {'is' if len(absent) == 1 else 'are'} not installed", advice)


def _spread(causes: dict[str, _Cause], requires: Mapping[str, tuple[str, ...]]) -> None:
    """Add those that require a plugin that cannot be loaded, and those that require them."""
    dependents = _dependents(requires)
    queue = deque(sorted(causes))
    while queue:
        name = queue.popleft()
        for dependent in sorted(dependents.get(name, ())):
            if dependent not in causes:
                causes[dependent] = attrs.evolve(causes[name], via=name)
                queue.append(dependent)


def _dependents(edges: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
    dependents: dict[str, set[str]] = {}
    for name, others in edges.items():
        for other in others:
            dependents.setdefault(other, set()).add(name)
    return dependents


def _rings(edges: Mapping[str, set[str]]) -> dict[str, _Cause]:
    causes: dict[str, _Cause] = {}
    for name in sorted(edges.keys() - set(_sorted(edges))):
        ring = () if name in causes else _ring(name, edges)
        for member in ring:
            reason = f"is in a ring of dependencies: {' -> '.join(ring)}"
            advice = "Remove one of these dependencies from a manifest"
            causes.setdefault(member, _Cause(member, reason, advice, ring=ring))
    return causes


def _ring(start: str, edges: Mapping[str, set[str]]) -> tuple[str, ...]:
    """Return a shortest way from a plugin back to itself, beginning with the first of its names; empty if none."""
    came_from: dict[str, str] = {}
    queue = deque([start])
    while queue and start not in came_from:
        name = queue.popleft()
        for other in sorted(edges[name] - came_from.keys()):
            came_from[other] = name
            queue.append(other)
    if start not in came_from:
        return ()
    ring = [came_from[start]]
    while ring[0] != start:
        ring.insert(0, came_from[ring[0]])
    first = ring.index(min(ring))
    return (*ring[first:], *ring[:first], ring[first])


def _sorted(edges: Mapping[str, set[str]]) -> list[str]:
    """Return names so that each comes after its edges, the first by name wherever there is a choice.

    Those in a ring, and those behind one, are left out. ``graphlib`` has no say in the order of what is ready.
    """
    waiting = {name: len(others) for name, others in edges.items()}
    dependents = _dependents(edges)
    ready = [name for name, count in waiting.items() if not count]
    heapify(ready)
    ordered = []
    while ready:
        name = heappop(ready)
        ordered.append(name)
        for dependent in dependents.get(name, ()):
            waiting[dependent] -= 1
            if not waiting[dependent]:
                heappush(ready, dependent)
    return ordered
