"""Devices that only virtual machines have, or hardly anybody else: VMBus, Xenbus, virtio and PCI."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..files import names_in, read_text
from .evidence import Evidence, Kind, Look, Weight

VMBUS: Final = "sys/bus/vmbus/devices"
XENBUS: Final = "sys/bus/xen/devices"
VIRTIO: Final = "sys/bus/virtio/devices"
PCI: Final = "sys/bus/pci/devices"

# include/linux/pci_ids.h, https://pci-ids.ucw.cz. A vendor with the device that is meant, or with all of them. What
# makers also sell as cards, or pass through to whole machines, is a hint: virtio, Microsoft's network cards.
_CARDS: Final[dict[tuple[str, str | None], tuple[Kind, Weight, str | None]]] = {
    ("0x15ad", None): ("vmware", Weight.NAMED, None),
    ("0x1414", "0x5353"): ("hyperv", Weight.NAMED, None),
    ("0x5853", "0x0001"): ("xen", Weight.NAMED, None),
    ("0x80ee", None): ("other", Weight.UNMASKED, "VirtualBox"),
    ("0x1ab8", None): ("other", Weight.UNMASKED, "Parallels"),
    ("0x1234", "0x1111"): ("other", Weight.PRODUCT, "QEMU"),
    ("0x1b36", None): ("other", Weight.PRODUCT, "QEMU"),
    ("0x1af4", None): ("other", Weight.HINT, None),
}


def look(root: Path) -> Look:
    """What is on the buses of this tree."""
    yield from _bus(root, VMBUS, "hyperv", Weight.NAMED)
    yield from _bus(root, XENBUS, "xen", Weight.NAMED)
    yield from _bus(root, VIRTIO, "other", Weight.HINT)
    yield from _pci(root)


def _bus(root: Path, folder: str, kind: Kind, weight: Weight) -> Iterator[Evidence]:
    names = names_in(root / folder)
    if names:
        devices = "1 device" if len(names) == 1 else f"{len(names)} devices"
        yield Evidence(source="bus", where=f"/{folder}", said=devices, kind=kind, weight=weight)


def _pci(root: Path) -> Iterator[Evidence]:
    """Each kind of card once, though there are many of it."""
    seen: set[tuple[str, str | None]] = set()
    for name in names_in(root / PCI) or ():
        vendor, device = (read_text(root / PCI / name / file) for file in ("vendor", "device"))
        for key in ((vendor or "", device), (vendor or "", None)):
            if key in _CARDS and key not in seen:
                seen.add(key)
                kind, weight, product = _CARDS[key]
                said = f"vendor {vendor}, device {device}"
                where = f"/{PCI}/{name}"
                yield Evidence(source="bus", where=where, said=said, kind=kind, weight=weight, product=product)
                break
