"""Numa: memory on the node that asked for it, the nodes of this machine, and the node of a device.

As a plugin it registers the capability ``numa``, a :class:`NumaAllocator`. Without a host::

    allocator = weighbridge_numa.local_allocator()
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from weighbridge_hookspecs import Buffer, Capabilities, Fact, PluginContext, hookimpl

from .allocator import NumaAllocator, NumaStatistics
from .buffer import NumaBuffer
from .examine import examine
from .masks import format_list
from .topology import NumaNode, NumaTopology, read_topology

if TYPE_CHECKING:
    from .machine import Machine

__version__ = "0.1.0"

__all__ = [
    "Numa",
    "NumaAllocator",
    "NumaBuffer",
    "NumaNode",
    "NumaStatistics",
    "NumaTopology",
    "local_allocator",
    "open_machine",
    "read_topology",
]


def open_machine() -> Machine:
    """The operating system that runs, as the allocator needs it."""
    if os.name == "nt":
        from .windows import open_windows

        return open_windows()
    from .linux import open_linux

    return open_linux()


def local_allocator() -> NumaAllocator:
    """An allocator for this machine, without a host: what it lends is on nobody's account."""
    return NumaAllocator(open_machine())


class Numa:
    """The plugin. It has no settings, starts no thread, and holds no memory but what was asked of it."""

    def __init__(self, context: PluginContext) -> None:
        machine = open_machine()
        self.allocator = context.track(NumaAllocator(machine, context.charge))

    @hookimpl
    def weighbridge_capabilities(self, registry: Capabilities) -> None:
        """Offer the allocator to others; ``details["mode"]`` says whether the kernel lets memory be placed."""
        topology, abilities = self.allocator.topology, self.allocator.machine.abilities
        nodes = "none named" if topology is None else format_list(topology.ids)
        aware = topology is not None and topology.is_numa_aware
        registry.register(
            "numa",
            self.allocator,
            evidence=f"nodes: {nodes}; {abilities.evidence}",
            details={"mode": abilities.mode, "nodes": nodes, "numa_aware": "yes" if aware else "no"},
        )

    @hookimpl
    def weighbridge_allocate_buffer(self, size: int, node: int | None) -> Buffer:
        """Lend ordinary pages, on `node` or near it; the bytes are on this plugin's account."""
        return self.allocator.allocate(size, node=node)

    @hookimpl
    def weighbridge_examine(self) -> Sequence[Fact]:
        """Nodes, memory policy and huge pages."""
        return examine(self.allocator.machine)
