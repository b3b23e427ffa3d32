"""The NUMA allocator with the kernel of a machine that has nodes. Each function runs in a process of its own."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weighbridge_hookspecs import LeaseError

from weighbridge_numa import NumaBuffer, local_allocator

from .agent import Line

NODES = Path("/sys/devices/system/node")
GROUPS = Path("/sys/fs/cgroup")


def topology(line: Line) -> dict[str, Any]:
    """What the plugin makes of this machine."""
    allocator = local_allocator()
    found = allocator.topology
    assert found is not None
    return {
        "nodes": {
            node.id: {"bytes": node.total_bytes, "cpus": sorted(node.cpus or ()), "devices": list(node.pci_devices)}
            for node in found.nodes
        },
        "distances": found.distances,
        "is_numa_aware": found.is_numa_aware,
        "mode": allocator.machine.abilities.mode,
    }


def place(line: Line, nbytes: int, node: int | None, strict: bool = False, huge: bool = False) -> dict[str, Any]:
    """Where a buffer is: what the plugin says, and what ``/proc/self/numa_maps`` says, once every page was written."""
    free = free_bytes()
    try:
        return {"free": free, **placed(nbytes, node, strict, huge)}
    except LeaseError as refusal:
        refused = {"refused": type(refusal).__name__, "message": str(refusal)}
    # Not before the error is gone, and with it the frames that it holds.
    return {"free": free, **refused, "free_after": free_bytes()}


def placed(nbytes: int, node: int | None, strict: bool, huge: bool) -> dict[str, Any]:
    """What is said about one buffer."""
    allocator = local_allocator()
    with allocator.allocate(nbytes, node=node, strict=strict, huge=huge) as buffer:
        view = buffer.view()
        for start in range(0, nbytes, mmap.PAGESIZE):
            view[start] = 1
        return {
            "placement": by_node(allocator.placement(buffer)),
            "kernel": by_node(in_numa_maps(buffer)),
            "pages": buffer.pages,
            "preferred": buffer.preferred,
        }


def place_reserved(line: Line, nbytes: int, node: int, reserved: int) -> dict[str, Any]:
    """The same on huge pages, of which the node sets some aside."""
    pool = NODES / f"node{node}" / "hugepages" / "hugepages-2048kB" / "nr_hugepages"
    pool.write_text(str(reserved))
    try:
        return place(line, nbytes, node, huge=True)
    finally:
        pool.write_text("0")


def place_confined(line: Line, nbytes: int, node: int, allowed: int) -> dict[str, Any]:
    """The same in a control group whose memory comes from one node."""
    (GROUPS / "cgroup.subtree_control").write_text("+cpuset")
    group = GROUPS / "confined"
    group.mkdir()
    (group / "cpuset.mems").write_text(str(allowed))
    (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        return place(line, nbytes, node)
    finally:
        (GROUPS / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()


def bind_over(line: Line, nbytes: int, node: int) -> None:
    """What the plugin must not do: bind to a node and write to more than it has (mbind(2), MPOL_BIND)."""
    with mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        address = ctypes.addressof(ctypes.c_char.from_buffer(area))
        mask = ctypes.c_ulong(1 << node)
        bound = ctypes.CDLL(None, use_errno=True).syscall(
            237, ctypes.c_void_p(address), ctypes.c_size_t(nbytes), 2, ctypes.byref(mask), ctypes.c_ulong(65), 0
        )
        if bound != 0:
            raise OSError(ctypes.get_errno(), "mbind")
        for start in range(0, nbytes, mmap.PAGESIZE):
            area[start] = 1


def devices(line: Line) -> dict[str, Any]:
    """The nodes of disks, of a partition, of files on it, and of what has no disk."""
    Path("/tmp/disk").mkdir()
    subprocess.run(["mke2fs", "/dev/nvme0n1p1"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["mount", "-t", "ext4", "/dev/nvme0n1p1", "/tmp/disk"], check=True)
    Path("/tmp/disk/file").write_text("x")
    names = ("nvme0n1", "nvme0n1p1", "/dev/nvme0n1", "/dev/nvme0n1p1", "/tmp/disk/file", "vda", "/dev/vda", "/tmp")
    allocator = local_allocator()
    try:
        return {name: None if (nodes := allocator.node_of(name)) is None else sorted(nodes) for name in names}
    finally:
        subprocess.run(["umount", "/tmp/disk"], check=True)


def in_host(line: Line, nbytes: int, node: int) -> dict[str, Any]:
    """The plugin loaded by a host: its capability, what stands on its account, and what is left after its unload."""
    from weighbridge import Host

    with Host() as host:
        host.load("numa")
        before = host.account("numa").held_bytes
        with host.capabilities["numa"].allocate(nbytes, node=node, strict=True) as buffer:
            placement = by_node(host.capabilities["numa"].placement(buffer))
            grown = host.account("numa").held_bytes - before
        described = next(one for one in host.capabilities.describe() if one.name == "numa")
        left = host.account("numa").held_bytes - before
        receipt = host.unload("numa")
        return {
            "placement": placement,
            "grown": grown,
            "left": left,
            "state": receipt.state,
            "survivors": len(receipt.survivors),
            "details": dict(described.details),
        }


def in_numa_maps(buffer: NumaBuffer) -> dict[int | None, int]:
    """Bytes by node of the mapping that a buffer is in: numa(7)."""
    rows = [row.split() for row in Path("/proc/self/numa_maps").read_text().splitlines()]
    row = max((row for row in rows if int(row[0], 16) <= buffer.region.address), key=lambda row: int(row[0], 16))
    facts = dict(word.split("=", 1) for word in row if "=" in word)
    page = int(facts["kernelpagesize_kB"]) * 1024
    return {int(name[1:]): int(pages) * page for name, pages in facts.items() if name[0] == "N" and name[1:].isdigit()}


def free_bytes() -> dict[str, int]:
    """Free memory of each node."""
    rows = {path.name[4:]: (path / "meminfo").read_text().splitlines() for path in NODES.glob("node[0-9]*")}
    return {node: next(int(row.split()[3]) * 1024 for row in lines if "MemFree" in row) for node, lines in rows.items()}


def by_node(placement: Mapping[int | None, int]) -> dict[str, int]:
    """With the names of JSON."""
    return {str(node): nbytes for node, nbytes in sorted(placement.items(), key=str)}
