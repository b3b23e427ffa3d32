"""A host for tests."""

from __future__ import annotations

from collections.abc import Mapping
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

    def _look(self) -> Discovery:
        if not self._allowed:
            raise ConfigurationError(
                "this host does not take what happens to be installed",
                step="discover",
                advice="Name what the test is about: weighbridge_host.allow('name'), or make it with temporary_plugin",
            )
        found = super()._look()
        return Discovery(
            candidates=tuple(one for one in found.candidates if one.name in self._allowed),
            problems=tuple(one for one in found.problems if one.plugin in self._allowed),
        )


class _NeverWeighed(Weights):
    def get(self, candidate: Candidate) -> Weight | None:
        return None
