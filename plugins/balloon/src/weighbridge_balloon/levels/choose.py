"""Which places know of the balloon on this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .debugfs import HypervDebugLevel, VmwareDebugLevel
from .level import LevelSource
from .virtio_pci import find_virtio_pci
from .vmstat import VmstatLevel
from .vmware_guest import VmwareGuestLevel
from .xen import XenLevel


def candidates(root: Path, *, may_write: bool) -> list[LevelSource]:
    """Every place that may know, those that see a target first.

    :param may_write: whether the device itself may be asked, which writes to its configuration space.
    """
    device = find_virtio_pci(root) if may_write else None
    found: list[LevelSource] = [] if device is None else [device]
    found += [XenLevel(root), VmwareDebugLevel(root)]
    if root == Path("/"):
        found.append(VmwareGuestLevel())  # a library belongs to the machine that runs, and to no tree
    return [*found, HypervDebugLevel(root), VmstatLevel(root)]


def find_levels(root: Path, *, may_write: bool, of: Callable[..., list[LevelSource]] = candidates) -> list[LevelSource]:
    """Those that answer now; the others are closed."""
    answering = []
    for source in of(root, may_write=may_write):
        level = source.read()
        if level.actual_bytes is None and level.wanted_bytes is None:
            source.close()
        else:
            answering.append(source)
    return answering
