"""Memory on the node that asked for it: which one to take, and what to do when it will not be had."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias, TypeGuard

import attrs
from weighbridge_hookspecs import CeilingExceeded, Lease, LeaseError

from .buffer import NumaBuffer
from .topology import NumaTopology

if TYPE_CHECKING:
    from .machine import Machine, Region

Charge: TypeAlias = Callable[[int, str], Lease]
"""``context.charge`` of the owner: bytes and a label."""

LABEL: Final = "NUMA buffers"


@attrs.frozen(kw_only=True)
class NumaStatistics:
    """What an allocator has done since it was made."""

    allocations: int
    allocated_bytes: int
    redirected: int
    """Buffers whose node gives no memory, so that the nearest one was preferred, or none."""
    refused: int
    """Allocations that failed."""


class NumaAllocator:
    """Allocates on nodes, says where memory is, and to which node a device belongs. Thread-safe.

    :param machine: the operating system.
    :param charge: ``context.charge`` of who answers for buffers without an owner; None puts them on no account.
    """

    def __init__(self, machine: Machine, charge: Charge | None = None) -> None:
        self._machine = machine
        self._charge = charge
        topology = machine.topology
        self._orders = {node: topology.spill_order(node) for node in topology.ids} if topology else {}
        self._lock = threading.Lock()
        self._allocations = self._bytes = self._redirected = self._refused = 0

    @property
    def topology(self) -> NumaTopology | None:
        """The nodes of this machine, as they were when the plugin was loaded; None if it says nothing about nodes."""
        return self._machine.topology

    @property
    def machine(self) -> Machine:
        """The operating system."""
        return self._machine

    def allocate(
        self,
        nbytes: int,
        *,
        node: int | None = None,
        strict: bool = False,
        huge: bool = False,
        charge: Charge | None = None,
    ) -> NumaBuffer:
        """Lend memory, zeroed; on `node` if it has room, else on the nearest, else anywhere.

        :param nbytes: its size, from 1 up.
        :param node: where it is wanted. None: where the machine decides, which is near the thread that touches it
            first. A node that does not exist is no error without `strict`: the same program runs on any machine.
        :param strict: touch every page now, move what is elsewhere, and raise if one is not on `node` then. The process
            is not killed for lack of room on the node.
        :param huge: on huge pages, if there are any.
        :param charge: ``context.charge`` of the plugin that it is for; without it, it is on the account of the NUMA
            plugin.
        :raises ValueError: if `nbytes` or `node` is no whole number, `nbytes` is below 1, or `strict` comes without a
            node.
        :raises CeilingExceeded: if there is no memory.
        :raises LeaseError: if `strict` and not all of it can be on that node, or nobody can tell.
        """
        _check(nbytes, node, strict)
        try:
            region = self._strict(nbytes, node, huge) if strict and node is not None else self._near(nbytes, node, huge)
            self._put_on_account(region, charge or self._charge)
        except LeaseError:
            with self._lock:
                self._refused += 1
            raise
        with self._lock:
            self._allocations += 1
            self._bytes += region.mapped_bytes
            self._redirected += region.preferred != node
        return NumaBuffer(region, node)

    def placement(self, buffer: NumaBuffer) -> Mapping[int | None, int]:
        """Bytes by node, as the kernel says now; None stands for those not there yet, or of which it does not speak.

        :raises LeaseError: if the buffer was released.
        """
        return self._machine.where(buffer.region)

    def node_of(self, path_or_device: str | os.PathLike[str]) -> frozenset[int] | None:
        """The nodes that a device, or the disk under a file, is attached to; None if the firmware is silent.

        :raises OSError: if there is no such device and no such file.
        """
        return self._machine.nodes_of(os.fspath(path_or_device))

    def statistics(self) -> NumaStatistics:
        """What was done so far."""
        with self._lock:
            return NumaStatistics(
                allocations=self._allocations,
                allocated_bytes=self._bytes,
                redirected=self._redirected,
                refused=self._refused,
            )

    def _near(self, nbytes: int, node: int | None, huge: bool) -> Region:
        return self._map(nbytes, () if node is None else self._orders.get(node, ()), huge)

    def _strict(self, nbytes: int, node: int, huge: bool) -> Region:
        topology = self.topology
        if topology is None or topology.node(node) is None:
            raise _no_room(nbytes, node, "no such node" if topology else "a machine that says nothing about nodes")
        region = self._map(nbytes, (node,), huge)
        try:
            if topology.ids == (node,):  # there is no other place
                region.populate()
                return region
            if region.preferred != node:
                raise _no_room(nbytes, node, f"a node that gives no memory, or {self._machine.abilities.evidence}")
            if not self._machine.gather(region, node):
                raise _no_room(nbytes, node, _in_words(self._machine.where(region)))
        except OSError as error:
            raise _out_of_memory(nbytes, error) from None
        return region

    def _map(self, nbytes: int, order: tuple[int, ...], huge: bool) -> Region:
        try:
            return self._machine.map(nbytes, order, huge=huge)
        except (OSError, OverflowError) as error:
            raise _out_of_memory(nbytes, error) from None

    def _put_on_account(self, region: Region, charge: Charge | None) -> None:
        """Until the memory is gone, which may be after the buffer and even after this plugin.

        What the process keeps for that is a lease of the host's, and nothing of this plugin's.
        """
        if charge is not None:
            lease = charge(region.mapped_bytes, LABEL)
            weakref.finalize(region.exporter, lease.release).atexit = False


def _out_of_memory(nbytes: int, error: Exception) -> CeilingExceeded:
    return CeilingExceeded(f"no memory for a buffer: {error}", wanted_bytes=nbytes)


def _no_room(nbytes: int, node: int, had: str) -> LeaseError:
    return LeaseError(
        f"node {node} does not hold all of a buffer",
        step="lease",
        wanted=f"{nbytes} bytes on node {node}",
        had=had,
        advice="Ask for less, for another node, or without strict",
    )


def _in_words(placement: Mapping[int | None, int]) -> str:
    known = sorted((node, nbytes) for node, nbytes in placement.items() if node is not None)
    words = [f"{nbytes} bytes on node {node}" for node, nbytes in known]
    if unknown := placement.get(None):
        words.append(f"{unknown} bytes of which the kernel says nothing")
    return ", ".join(words)


def _check(nbytes: object, node: object, strict: bool) -> None:
    if not _is_whole(nbytes) or nbytes < 1:
        raise ValueError(f"a buffer of {nbytes!r} bytes: give a whole number from 1 up")
    if node is None and strict:
        raise ValueError("strict needs a node: say which")
    if node is not None and not _is_whole(node):
        raise ValueError(f"node {node!r}: give the number of a node, or None")


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
