"""Names of what this process is able to do."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from weighbridge_hookspecs import Capability, ConfigurationError


class CapabilityRegistry:
    """Capabilities with evidence and owner. Thread-safe; an owner's entries leave with one call."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[Capability, object]] = {}
        self._lock = threading.Lock()

    def add(self, capability: Capability, provided: object) -> None:
        """Announce a capability.

        :raises ConfigurationError: if another owner has taken the name.
        """
        with self._lock:
            taken = self._entries.get(capability.name)
            if taken is not None and taken[0].owner != capability.owner:
                raise ConfigurationError(
                    f"the capability {capability.name!r} is already provided by {taken[0].owner!r}",
                    plugin=capability.owner,
                    step="activate",
                    advice="Load only one of the two",
                )
            self._entries[capability.name] = (capability, provided)

    def remove(self, name: str, owner: str) -> None:
        """Take one name back; fine if it is gone or is somebody else's."""
        with self._lock:
            if name in self._entries and self._entries[name][0].owner == owner:
                del self._entries[name]

    def __getitem__(self, name: str) -> Any:
        with self._lock:
            return self._entries[name][1]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def describe(self) -> tuple[Capability, ...]:
        """Every capability, sorted by name."""
        with self._lock:
            return tuple(self._entries[name][0] for name in sorted(self._entries))


class OwnedCapabilities:
    """A registry as one owner sees it: what it registers is in its name, and comes back through `lend`."""

    def __init__(self, registry: CapabilityRegistry, owner: str, lend: Any) -> None:
        self._registry = registry
        self._owner = owner
        self._lend = lend

    def register(
        self, name: str, provided: object = None, *, evidence: str, details: Mapping[str, str] | None = None
    ) -> None:
        """Announce `name`; it leaves with the owner."""
        frozen = MappingProxyType(dict(details or {}))
        capability = Capability(name=name, owner=self._owner, evidence=evidence, details=frozen)
        self._registry.add(capability, provided)
        self._lend("capability", name, lambda: self._registry.remove(name, self._owner))

    def __getitem__(self, name: str) -> Any:
        return self._registry[name]

    def __contains__(self, name: object) -> bool:
        return name in self._registry

    def describe(self) -> tuple[Capability, ...]:
        """Every capability of the process, sorted by name."""
        return self._registry.describe()
