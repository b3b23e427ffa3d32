"""What the page about this plugin shows, run."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from weighbridge_hookspecs import LeaseError, PluginContext

from weighbridge_numa import NumaAllocator, local_allocator


# snippet: owner
class Decoder:
    """Keeps its frames near the network card."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context

    def frame(self, nbytes: int) -> memoryview:
        numa = self._context.capabilities["numa"]
        near = numa.node_of("eth0")  # a set, or None where the firmware is silent
        node = min(near) if near else None
        with numa.allocate(nbytes, node=node, charge=self._context.charge) as buffer:
            view: memoryview = buffer.view()
            return view  # the memory stays until this view has gone


# end snippet


# snippet: strict
def on_node(numa: NumaAllocator, node: int, nbytes: int) -> Mapping[int | None, int]:
    try:
        buffer = numa.allocate(nbytes, node=node, strict=True)
    except LeaseError:
        buffer = numa.allocate(nbytes, node=node)  # as near as it gets
    with buffer:
        return numa.placement(buffer)


# end snippet


class Lease:
    def __init__(self, charges: dict[str, int], label: str, nbytes: int) -> None:
        self.charges, self.label = charges, label
        charges[label] = charges.get(label, 0) + nbytes

    def release(self) -> None:
        self.charges.pop(self.label, None)


def test_an_owner_keeps_memory_as_long_as_its_view() -> None:
    """What the page shows works without a network card of that name, or fails by saying that there is none."""
    charges: dict[str, int] = {}
    numa = local_allocator()
    context: Any = SimpleNamespace(
        capabilities={"numa": numa}, charge=lambda nbytes, label: Lease(charges, label, nbytes)
    )
    numa.node_of = lambda name: frozenset({0}) if name == "eth0" else None  # type: ignore[method-assign, assignment]
    frame = Decoder(context).frame(5 * mmap.PAGESIZE)
    frame[-1] = 1
    assert charges == {"NUMA buffers": 5 * mmap.PAGESIZE}
    del frame
    assert charges == {}


@pytest.mark.parametrize("node", [0, 4000])
def test_memory_is_had_strictly_or_as_near_as_it_gets(node: int) -> None:
    """All of it is somewhere, also for a node that there is not."""
    placement = on_node(local_allocator(), node, 9 * mmap.PAGESIZE)
    assert sum(placement.values()) == 9 * mmap.PAGESIZE
