"""What this machine offers in nodes and huge pages, in words, with the file or call that says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from weighbridge_hookspecs import Fact

from .masks import format_list
from .memory import read_huge_pages
from .topology import NumaNode, NumaTopology, allowed_nodes

if TYPE_CHECKING:
    from .machine import Machine

_MIB = 1 << 20


def examine(machine: Machine, root: str = "/") -> tuple[Fact, ...]:
    """What is known about nodes and huge pages. It changes nothing.

    :param root: where the file system begins.
    """
    return (
        *_nodes(machine.topology),
        Fact(
            subject="NUMA memory policy",
            finding=machine.abilities.mode,
            evidence=machine.abilities.evidence,
        ),
        _allowed(root),
        _transparent(root),
        _reserved(root),
    )


def _nodes(topology: NumaTopology | None) -> list[Fact]:
    if topology is None:
        return [Fact(subject="NUMA nodes", finding=None, evidence="the system names none")]
    count = f"{len(topology.nodes)} ({format_list(topology.ids)})"
    said = "; ".join([topology.source, *topology.remarks])
    return [
        Fact(subject="NUMA nodes", finding=count, evidence=said),
        *(_node(node, topology.source) for node in topology.nodes),
        Fact(subject="NUMA distances", finding=_distances(topology), evidence=topology.source),
    ]


def _node(node: NumaNode, source: str) -> Fact:
    parts = [
        None if node.total_bytes is None else f"{node.total_bytes // _MIB} MiB",
        None if node.cpus is None else f"processors {format_list(node.cpus)}",
        f"{len(node.pci_devices)} PCI devices" if node.pci_devices else None,
        None if node.tier is None else f"memory tier {node.tier}",
        "memory of a GPU" if node.is_device_memory else None,
    ]
    known = ", ".join(part for part in parts if part)
    return Fact(subject=f"NUMA node {node.id}", finding=known or None, evidence=source)


def _distances(topology: NumaTopology) -> str | None:
    if topology.distances is None:
        return None
    rows = zip(topology.ids, topology.distances, strict=True)
    return "; ".join(f"{node_id}: {' '.join(map(str, row))}" for node_id, row in rows)


def _allowed(root: str) -> Fact:
    allowed = allowed_nodes(root)
    return Fact(
        subject="NUMA nodes allowed",
        finding=None if allowed is None else format_list(allowed),
        evidence="Mems_allowed_list of /proc/self/status",
    )


def _transparent(root: str) -> Fact:
    return Fact(
        subject="huge pages, transparent",
        finding=read_huge_pages(root).transparent,
        evidence="/sys/kernel/mm/transparent_hugepage/enabled",
    )


def _reserved(root: str) -> Fact:
    offered = read_huge_pages(root)
    known = offered.reserved is not None and offered.page_bytes is not None
    return Fact(
        subject="huge pages, reserved",
        finding=f"{offered.reserved} free of {offered.page_bytes} bytes" if known else None,
        evidence="/sys/kernel/mm/hugepages/*/free_hugepages",
    )
