"""A host for tests."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from weighbridge_hookspecs import Candidate, ConfigurationError

from .admission.weights import Weight, Weights
from .discovery.candidates import Discovery
from .host import Host


class IsolatedHost(Host):
    """A host that finds only the plugins that it was told about, so that a test means the same on every machine.

    Nor does it know the operator's environment variables, or what plugins weighed on this machine.
    """

    def __init__(self, ceiling: int | str | None = None, **options: Any) -> None:
        self._allowed: set[str] = set()
        super().__init__(ceiling, **{"weights": _NeverWeighed(), **options})

    def allow(self, *names: str) -> None:
        """Let these plugins be found; the next look-up discovers again."""
        self._allowed.update(names)
        self._roster.discovered = False

    def _environment(self) -> Mapping[str, str]:
        return {}

    def _search(self, group: str, path: Sequence[str] | None) -> Callable[[], Discovery]:
        return partial(_look, self._allowed, super()._search(group, path))


def _look(allowed: Collection[str], search: Callable[[], Discovery]) -> Discovery:
    """What `search` finds of the plugins that are `allowed`."""
    if not allowed:
        raise ConfigurationError(
            "this host does not take what happens to be installed",
            step="discover",
            advice="Name what the test is about: weighbridge_host.allow('name'), or make it with temporary_plugin",
        )
    found = search()
    return Discovery(
        candidates=tuple(one for one in found.candidates if one.name in allowed),
        problems=tuple(one for one in found.problems if one.plugin in allowed),
    )


class _NeverWeighed(Weights):
    def get(self, candidate: Candidate) -> Weight | None:
        return None
