"""What the allocator needs of an operating system, and nothing of how it is done there.

Protocols alone: only a type checker imports this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from .abilities import Abilities, Pages
from .topology import NumaTopology


class Region(Protocol):
    """Memory of its own, which goes back when its exporter and every view of it are gone."""

    @property
    def exporter(self) -> object:
        """What views keep alive; it can be weakly referenced, and is of no class of this plugin's."""

    @property
    def address(self) -> int:
        """Where it begins."""

    @property
    def nbytes(self) -> int:
        """What was asked for."""

    @property
    def mapped_bytes(self) -> int:
        """What it takes: whole pages."""

    @property
    def page_bytes(self) -> int:
        """The size of the pages in which the kernel keeps it: each is on one node."""

    @property
    def preferred(self) -> int | None:
        """The node that the kernel was asked to take it from; None if it was not asked, or refused."""

    @property
    def pages(self) -> Pages:
        """What kind of pages it has."""

    def view(self) -> memoryview:
        """The memory, writable, `nbytes` long."""

    def populate(self) -> None:
        """Have every page there, with what is in it.

        :raises OSError: if there is no memory.
        """


class Machine(Protocol):
    """An operating system."""

    @property
    def topology(self) -> NumaTopology | None:
        """Its nodes; None if it says nothing about nodes."""

    @property
    def abilities(self) -> Abilities:
        """What it lets this process do."""

    def map(self, nbytes: int, order: Sequence[int], *, huge: bool = False) -> Region:
        """Memory, from the first node of `order` that the kernel accepts; from anywhere if it accepts none.

        A node that is accepted and full is no error: the kernel then takes the nearest.

        :raises OSError: if there is no memory, or none that may be had.
        """

    def gather(self, region: Region, node: int) -> bool:
        """Touch every page and have all of them on `node`; whether they are. Never ends the process."""

    def where(self, region: Region) -> Mapping[int | None, int]:
        """Bytes by node, as the kernel says now; None stands for those not there yet, or that it does not speak of."""

    def nodes_of(self, name: str) -> frozenset[int] | None:
        """The nodes that a device, or the disk under a file, is attached to; None if that is not known.

        :raises OSError: if there is no such device and no such file.
        """
