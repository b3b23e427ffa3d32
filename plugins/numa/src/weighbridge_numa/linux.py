"""Linux; and every other Unix, as a machine that says nothing about nodes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from . import memory
from .abilities import Abilities
from .devices import nodes_of
from .memory import HugePages, MappedRegion
from .syscalls import find_syscalls
from .topology import NumaTopology, read_topology

if TYPE_CHECKING:
    from .machine import Region
    from .policies import Policies

# Pages that somebody else uses for a moment are EBUSY, and move at the next try.
_ROUNDS: Final = 5


def open_linux(root: str = "/") -> Linux:
    """The machine that runs, with the calls of its kernel.

    :param root: where the file system begins.
    """
    policies = find_syscalls()
    return Linux(
        topology=read_topology(root),
        policies=policies,
        abilities=probe(policies),
        huge_pages=memory.read_huge_pages(root),
        root=root,
    )


def probe(policies: Policies | None) -> Abilities:
    """Try the calls on a page of our own. They are often forbidden in containers, and then nothing else tells."""
    if policies is None:
        evidence = "no system calls for nodes are known for this system and architecture"
        return Abilities(can_bind=False, can_ask=False, evidence=evidence)
    page = memory.map_ordinary(1)
    refused = {
        "mbind": _refusal(lambda: policies.prefer(page.address, page.mapped_bytes, None)),
        "move_pages": _refusal(lambda: policies.nodes_of_pages([page.address])),
    }
    evidence = "; ".join(f"{name}: {error or 'answers'}" for name, error in refused.items())
    return Abilities(can_bind=not refused["mbind"], can_ask=not refused["move_pages"], evidence=evidence)


def _refusal(call: Callable[[], object]) -> str:
    try:
        call()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return ""


class Linux:
    """A machine with Linux, put together from what was read and what may be called; see :class:`Machine`."""

    def __init__(
        self,
        *,
        topology: NumaTopology | None,
        policies: Policies | None,
        abilities: Abilities,
        huge_pages: HugePages,
        root: str = "/",
    ) -> None:
        self.topology = topology
        self.policies = policies
        self.abilities = abilities
        self.huge_pages = huge_pages
        self.root = root

    def map(self, nbytes: int, order: Sequence[int], *, huge: bool = False) -> MappedRegion:
        """See :meth:`Machine.map`."""
        for region in self._huge(nbytes) if huge else ():
            bound = self._prefer(region, order)
            if bound.pages != "reserved" or _is_populated(bound):
                return bound
        return self._prefer(memory.map_ordinary(nbytes), order)

    def gather(self, region: Region, node: int) -> bool:
        """See :meth:`Machine.gather`. Pages are moved, never bound: a fault on a full node would be a SIGKILL."""
        if self.policies is None or not self.abilities.can_ask:
            return False
        pages = _pages(region)
        for _ in range(_ROUNDS):
            region.populate()  # each time, for what was swapped out meanwhile is nowhere
            places = self.policies.nodes_of_pages(pages)
            strays = [page for page, place in zip(pages, places, strict=True) if place != node]
            if not strays:
                return True
            try:
                self.policies.move(strays, node)
            except OSError:
                return False
        return False

    def where(self, region: Region) -> Mapping[int | None, int]:
        """See :meth:`Machine.where`."""
        if self.policies is None or not self.abilities.can_ask:
            return {None: region.nbytes}
        pages = _pages(region)
        found: dict[int | None, int] = {}
        for page, place in zip(pages, self.policies.nodes_of_pages(pages), strict=True):
            node = place if place >= 0 else None
            part = min(region.page_bytes, region.address + region.nbytes - page)
            found[node] = found.get(node, 0) + part
        return found

    def nodes_of(self, name: str | os.PathLike[str]) -> frozenset[int] | None:
        """See :meth:`Machine.nodes_of`."""
        return nodes_of(name, root=self.root)

    def _huge(self, nbytes: int) -> Iterator[MappedRegion]:
        """Ways to huge pages, the surest first; none where it would not fill one."""
        huge_bytes = self.huge_pages.page_bytes
        if huge_bytes is None or nbytes < huge_bytes:
            return
        if self.huge_pages.reserved is not None and (reserved := memory.map_reserved(nbytes, huge_bytes)):
            yield reserved
        if self.huge_pages.transparent != "never" and (advised := memory.map_transparent(nbytes, huge_bytes)):
            yield advised

    def _prefer(self, region: MappedRegion, order: Sequence[int]) -> MappedRegion:
        """Before the first touch, for a page stays where it was taken from. EINVAL: that node gives no memory."""
        if self.policies is None or not self.abilities.can_bind:
            return region
        for node in order:
            try:
                self.policies.prefer(region.address, region.mapped_bytes, node)
            except OSError:
                continue
            region.preferred = node
            break
        return region


def _pages(region: Region) -> range:
    return range(region.address, region.address + region.nbytes, region.page_bytes)


def _is_populated(region: MappedRegion) -> bool:
    try:
        region.populate()
    except OSError:
        return False
    return True
