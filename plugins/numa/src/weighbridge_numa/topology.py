"""What the kernel says about memory nodes, and in which order memory is looked for.

Everything is read from files below ``/sys/devices/system/node``, ``/sys/devices/virtual/memory_tiering``,
``/sys/bus/pci/devices`` and ``/proc/driver/nvidia/gpus``; nothing is assumed of what is not there. Source:
https://docs.kernel.org/admin-guide/mm/numaperf.html and ``Documentation/ABI/stable/sysfs-devices-node``.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Final

import attrs

from .files import entries, read, read_int
from .masks import format_list, parse_bitmap, parse_list

NODES: Final = "sys/devices/system/node"
MAX_NODES: Final = 1024
"""``CONFIG_NODES_SHIFT`` is at most 10."""
UNREACHABLE: Final = 255
"""The distance that ACPI reserves for nodes that do not see each other."""

# POWER9 numbers the memory of its GPUs downwards from 255; the driver says so, if it is loaded.
_GPU_IDS: Final = range(250, 256)
_MEM_TOTAL: Final = re.compile(r"\bMemTotal:\s+(\d+) kB")
_GPU_NODE: Final = re.compile(r"^Node:\s*(\d+)", re.MULTILINE)


@attrs.frozen(kw_only=True)
class NumaNode:
    """One node: memory and processors that are close to each other."""

    id: int
    """The kernel's number; ids have gaps."""
    total_bytes: int | None = None
    """Memory of the node; 0 for a node without memory, None if the kernel does not say."""
    cpus: frozenset[int] | None = None
    """Its processors that are online; empty for a node without any, None if the kernel does not say."""
    pci_devices: tuple[str, ...] = ()
    """Addresses of the PCI devices that the firmware puts here, such as ``"0000:3b:00.0"``."""
    tier: int | None = None
    """Memory tier; a lower one is faster. None before Linux 6.1."""
    is_device_memory: bool = False
    """Whether it is the memory of a GPU: nothing else should be put there unasked."""


@attrs.frozen(kw_only=True)
class NumaTopology:
    """The nodes that are online, by id, and what lies between them."""

    nodes: tuple[NumaNode, ...]
    distances: tuple[tuple[int, ...], ...] | None = None
    """Row by row in the order of `nodes`; 10 is local. None if the kernel's table is missing or does not fit."""
    source: str = f"/{NODES}"
    """Who said so: a folder, or a call."""
    remarks: tuple[str, ...] = ()
    """What is odd about this machine, in words."""

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids of the nodes."""
        return tuple(node.id for node in self.nodes)

    @property
    def is_numa_aware(self) -> bool:
        """Whether there is more than one node, so that a place can be chosen at all."""
        return len(self.nodes) > 1

    def node(self, node_id: int) -> NumaNode | None:
        """The node of that id; None if there is none online."""
        return next((node for node in self.nodes if node.id == node_id), None)

    def distance(self, here: int, there: int) -> int | None:
        """How far `there` is from `here`, 10 being local; None if it is not known. It need not be the same back."""
        ids = self.ids
        if self.distances is None or here not in ids or there not in ids:
            return None
        return self.distances[ids.index(here)][ids.index(there)]

    def spill_order(self, start: int) -> tuple[int, ...]:
        """Ids of the nodes that can hold memory, in the order in which they are tried for `start`.

        `start` comes first, then the nearest by distance. Where distances are equal or not known, nodes with
        processors come before those without, and of these the ones of a faster tier. Memory of a GPU is left out,
        unless it is `start` itself. Empty if `start` is not online.
        """
        if start not in self.ids:
            return ()
        usable = [
            node for node in self.nodes if node.total_bytes != 0 and (node.id == start or not node.is_device_memory)
        ]
        return tuple(node.id for node in sorted(usable, key=lambda node: self._rank(start, node)))

    def _rank(self, start: int, node: NumaNode) -> tuple[bool, int, bool, int, int]:
        distance = self.distance(start, node.id)
        far = UNREACHABLE if distance is None else distance
        tier = MAX_NODES if node.tier is None else node.tier
        return (node.id != start, far, node.cpus == frozenset(), tier, node.id)


def read_topology(root: str = "/") -> NumaTopology | None:
    """What the kernel says about its nodes; None on a machine that says nothing. It never raises.

    :param root: where the file system begins.
    """
    folder = os.path.join(root, NODES)
    ids = _online(folder)
    if not ids:
        return None
    tiers, local, gpus = _tiers(root), _pci_devices(root), _gpu_nodes(root)
    nodes = tuple(
        _node(folder, node_id, tier=tiers.get(node_id), pci_devices=local.get(node_id, ()), gpus=gpus)
        for node_id in ids
    )
    distances, complaint = _distances(folder, ids)
    return NumaTopology(nodes=nodes, distances=distances, remarks=(*complaint, *_remarks(nodes)))


def allowed_nodes(root: str = "/") -> frozenset[int] | None:
    """The nodes from which this process may have memory now (its cpuset); None if the kernel does not say.

    Source: ``Mems_allowed_list`` of ``/proc/self/status``, proc_pid_status(5).
    """
    status = read(root, "proc/self/status") or ""
    found = re.search(r"^Mems_allowed_list:(.*)$", status, re.MULTILINE)
    return parse_list(found[1], MAX_NODES) if found else None


def _online(folder: str) -> list[int]:
    """The mask decides: a folder may stay when its node goes. Kernels without the mask have folders alone."""
    mask = parse_list(read(folder, "online") or "", MAX_NODES)
    if not mask:
        names = (re.fullmatch(r"node(\d{1,4})", name) for name in entries(folder))
        mask = frozenset(int(found[1]) for found in names if found and int(found[1]) < MAX_NODES)
    return sorted(mask)


def _node(
    folder: str, node_id: int, *, tier: int | None, pci_devices: tuple[str, ...], gpus: frozenset[int]
) -> NumaNode:
    path = os.path.join(folder, f"node{node_id}")
    cpus = _cpus(path)
    return NumaNode(
        id=node_id,
        total_bytes=_total_bytes(path),
        cpus=cpus,
        pci_devices=pci_devices,
        tier=tier,
        is_device_memory=node_id in gpus or (cpus == frozenset() and node_id in _GPU_IDS),
    )


def _cpus(path: str) -> frozenset[int] | None:
    listed = read(path, "cpulist")
    if listed is not None:
        return parse_list(listed)
    mapped = read(path, "cpumap")  # all that there was before Linux 2.6.26
    return None if mapped is None else parse_bitmap(mapped)


def _total_bytes(path: str) -> int | None:
    found = _MEM_TOTAL.search(read(path, "meminfo") or "")
    return int(found[1]) * 1024 if found else None


def _tiers(root: str) -> dict[int, int]:
    folder = os.path.join(root, "sys/devices/virtual/memory_tiering")
    tiers: dict[int, int] = {}
    for name in entries(folder):
        if found := re.fullmatch(r"memory_tier(\d{1,9})", name):
            members = parse_list(read(folder, name, "nodelist") or "", MAX_NODES)
            tiers.update(dict.fromkeys(members or (), int(found[1])))
    return tiers


def _pci_devices(root: str) -> Mapping[int, tuple[str, ...]]:
    folder = os.path.join(root, "sys/bus/pci/devices")
    local: defaultdict[int, tuple[str, ...]] = defaultdict(tuple)
    for name in entries(folder):
        node = read_int(folder, name, "numa_node")
        if node is not None and node >= 0:  # -1: the firmware did not say
            local[node] += (name,)
    return local


def _gpu_nodes(root: str) -> frozenset[int]:
    folder = os.path.join(root, "proc/driver/nvidia/gpus")
    found = (_GPU_NODE.search(read(folder, name, "numa_status") or "") for name in entries(folder))
    return frozenset(int(match[1]) for match in found if match)


def _distances(folder: str, ids: list[int]) -> tuple[tuple[tuple[int, ...], ...] | None, tuple[str, ...]]:
    """The table, and a complaint if there is one that does not fit."""
    possible = parse_list(read(folder, "possible") or "", MAX_NODES) or frozenset()
    rows = []
    for node_id in ids:
        text = read(folder, f"node{node_id}", "distance")
        if text is None:
            return None, ()
        row = _row(text, ids, sorted(possible))
        if row is None:
            return None, (f"the distances of node {node_id} do not fit the nodes: {text[:80]!r}",)
        rows.append(row)
    return tuple(rows), ()


def _row(text: str, ids: list[int], possible: list[int]) -> tuple[int, ...] | None:
    """A row has an entry for each node that is online; some kernels write one for each that is possible."""
    words = text.split()
    if not all(re.fullmatch(r"[0-9]{1,3}", word) and 0 < int(word) <= UNREACHABLE for word in words):
        return None
    values = [int(word) for word in words]
    for columns in (ids, possible):
        if len(values) == len(columns) and set(ids) <= set(columns):
            by_id = dict(zip(columns, values, strict=True))
            return tuple(by_id[node_id] for node_id in ids)
    return None


def _remarks(nodes: tuple[NumaNode, ...]) -> list[str]:
    kinds = {
        "no memory": [node.id for node in nodes if node.total_bytes == 0],
        "no processors": [node.id for node in nodes if node.cpus == frozenset()],
        "memory of a GPU": [node.id for node in nodes if node.is_device_memory],
    }
    return [f"{words} in {format_list(ids)}" for words, ids in kinds.items() if ids]
