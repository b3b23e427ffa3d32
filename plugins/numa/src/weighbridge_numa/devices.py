"""The memory node of a device, or of the disk that a file lies on.

Source: https://docs.kernel.org/admin-guide/sysfs-rules.html and ``numa_node`` in ``Documentation/ABI/testing``:
a device that has none inherits its parent's, and -1 says that the firmware did not tell.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable
from typing import Final

from .files import entries, read_int

Stat = Callable[[str], os.stat_result]

# Where a name without a slash is looked for.
_CLASSES: Final = ("class/block", "class/net", "class/nvme", "class/infiniband", "bus/pci/devices")
_CONTROLLER: Final = re.compile(r"nvme\d+")
_HEAD: Final = re.compile(r"nvme(\d+)n(\d+)")


def nodes_of(name: str | os.PathLike[str], *, root: str = "/", stat_of: Stat = os.stat) -> frozenset[int] | None:
    """The nodes that a device is attached to; None if the firmware is silent, or for a part of it.

    :param name: a network interface, a block device, an NVMe controller or a PCI address by its name (``"eth0"``,
        ``"nvme0n1"``, ``"0000:3b:00.0"``), or a path: that of a device, or of a file or folder, which means the disk
        under it. There is more than one node if it is made of several devices, or reached on several ways.
    :param root: where the file system begins.
    :param stat_of: stands in for ``os.stat``.
    :raises OSError: if there is no such device and no such file.
    """
    device = _device(os.fspath(name), root, stat_of)
    return None if device is None else _walk(device, os.path.join(os.path.realpath(root), "sys"), frozenset())


def _device(name: str, root: str, stat_of: Stat) -> str | None:
    """The folder of the device in sysfs; None if it has none."""
    if "/" not in name and name not in ("", ".", ".."):
        places = (os.path.join(root, "sys", place, name) for place in _CLASSES)
        if found := next(filter(os.path.isdir, places), None):
            return os.path.realpath(found)
    status = stat_of(name)
    kind, number = "block", status.st_dev
    if stat.S_ISBLK(status.st_mode):
        number = status.st_rdev
    elif stat.S_ISCHR(status.st_mode):
        kind, number = "char", status.st_rdev
    # Anonymous numbers, 0:N, are those of btrfs, overlayfs, ZFS and tmpfs: no disk is to be found by them.
    place = os.path.join(root, "sys/dev", kind, f"{os.major(number)}:{os.minor(number)}")
    return os.path.realpath(place) if os.path.isdir(place) else None


def _walk(device: str, top: str, seen: frozenset[str]) -> frozenset[int] | None:
    if device in seen:  # a loop of layers would be the kernel's mistake, but nobody should hang on it
        return None
    if os.path.exists(os.path.join(device, "partition")):
        device = os.path.dirname(device)
    if parts := _parts(device):
        return _union(_walk(part, top, seen | {device}) for part in parts)
    return _nearest(device, top)


def _union(nodes: Iterable[frozenset[int] | None]) -> frozenset[int] | None:
    """All of them; None if one is unknown, for half an answer looks like a whole one."""
    known: set[int] = set()
    for each in nodes:
        if each is None:
            return None
        known |= each
    return frozenset(known)


def _parts(device: str) -> list[str]:
    """What a device is made of: of dm and md their slaves, of bonds and bridges their ports, of NVMe its paths."""
    slaves = [os.path.join(device, "slaves", name) for name in entries(device, "slaves")]
    lower = [os.path.join(device, name) for name in entries(device) if name.startswith("lower_")]
    return [os.path.realpath(part) for part in (slaves or lower)] or _nvme_paths(device)


def _nvme_paths(head: str) -> list[str]:
    """The paths of a namespace that several controllers share: its own folder belongs to none of them."""
    found = _HEAD.fullmatch(os.path.basename(head))
    subsystem = os.path.dirname(head)
    if found is None or not os.path.basename(subsystem).startswith("nvme-subsys"):
        return []
    path_name = re.compile(rf"nvme{found[1]}c\d+n{found[2]}")
    controllers = [os.path.realpath(os.path.join(subsystem, n)) for n in entries(subsystem) if _CONTROLLER.fullmatch(n)]
    paths = [os.path.join(each, n) for each in controllers for n in entries(each) if path_name.fullmatch(n)]
    return paths or controllers


def _nearest(device: str, top: str) -> frozenset[int] | None:
    """The node of the device, or of the first one above it that has one."""
    while device.startswith(top + os.sep):
        node = read_int(device, "numa_node")
        if node is not None and node >= 0:
            return frozenset({node})
        device = os.path.dirname(device)
    return None
