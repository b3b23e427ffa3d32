"""Names of what this process is able to do."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import attrs
from weighbridge_hookspecs import Capability, ConfigurationError


@attrs.frozen(kw_only=True)
class CapabilityStatistics:
    """What a registry holds; ``registered == held + removed``."""

    held: int
    owners: int
    """How many have registered what is held."""
    registered: int
    """Names that came so far; one that its owner registers again is the same."""
    removed: int


class CapabilityRegistry:
    """Capabilities with evidence and owner. Thread-safe; an owner's entries leave with one call."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[Capability, object]] = {}
        # What is replaced may have a finalizer that looks a name up, in the thread that has the lock.
        self._lock = threading.RLock()
        self._registered = 0

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
            self._registered += taken is None
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

    def statistics(self) -> CapabilityStatistics:
        """What it holds now, and how many came so far."""
        with self._lock:
            owners = {capability.owner for capability, _ in self._entries.values()}
            held = len(self._entries)
            return CapabilityStatistics(
                held=held, owners=len(owners), registered=self._registered, removed=self._registered - held
            )


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
