"""Balloons of this machine: the devices and drivers through which a hypervisor takes memory back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, Literal, TypeAlias

import attrs

from . import virtio
from .files import is_there, link_name, names_in, read_text

BalloonKind: TypeAlias = Literal["virtio", "hyperv", "xen", "vmware"]

# HV_DM_GUID, the dynamic memory of Hyper-V: include/linux/hyperv.h
_DYNAMIC_MEMORY: Final = "525074dc-8985-46e2-8057-a307dc18a502"
_VMBUS: Final = "sys/bus/vmbus/devices"
# drivers/xen/xen-balloon.c
_XEN: Final = "sys/devices/system/xen_memory/xen_memory0"
# drivers/misc/vmw_balloon.c; the debugfs file is root's.
_VMWARE: Final = ("sys/module/vmw_balloon", "sys/kernel/debug/vmmemctl")

# https://learn.microsoft.com/windows-hardware/drivers/install/hklm-system-currentcontrolset-services-registry-tree
_INSTANCES: Final = r"SYSTEM\CurrentControlSet\Services\{}\Enum"
_SERVICES: Final[dict[str, BalloonKind]] = {"BALLOON": "virtio", "dmvsc": "hyperv", "vmmemctl": "vmware"}


@attrs.frozen(kw_only=True)
class BalloonDevice:
    """One balloon."""

    kind: BalloonKind
    name: str
    works: bool | None
    """Whether a driver is there that lets it grow; None if that cannot be known."""
    evidence: str


def find(root: Path = Path("/")) -> tuple[BalloonDevice, ...]:
    """Every balloon that can be seen in the tree, whatever the hypervisor is; empty if there is none to be seen."""
    if sys.platform == "win32":
        from .hypervisor.windows import values

        return tuple(on_windows(values))
    return (*_virtio(root), *_hyperv(root), *_xen(root), *_vmware(root))


def on_windows(values: Callable[[str], Mapping[str, str]]) -> Iterator[BalloonDevice]:
    """The drivers of balloons that have a device: Windows enters its instance under their service.

    :param values: gives the texts under a key of ``HKEY_LOCAL_MACHINE``.
    """
    for service, kind in _SERVICES.items():
        key = _INSTANCES.format(service)
        for instance in values(key).values():
            evidence = f"HKLM\\{key}: {instance}"
            yield BalloonDevice(kind=kind, name=service, works=True, evidence=evidence)


def _virtio(root: Path) -> Iterator[BalloonDevice]:
    for device in virtio.balloons(root):
        features = ", ".join(device.feature_names()) or "none that can be read"
        yield BalloonDevice(
            kind="virtio",
            name=device.name,
            works=False if device.driver is None else device.is_running,
            evidence=f"/{virtio.DEVICES}/{device.name}: device 0x0005, driver {device.driver}, features {features}",
        )


def _hyperv(root: Path) -> Iterator[BalloonDevice]:
    for name in names_in(root / _VMBUS) or ():
        path = root / _VMBUS / name
        if (read_text(path / "class_id") or "").strip("{}").lower() == _DYNAMIC_MEMORY:
            driver = link_name(path / "driver")
            evidence = f"/{_VMBUS}/{name}: dynamic memory, driver {driver}"
            yield BalloonDevice(kind="hyperv", name=name, works=driver is not None, evidence=evidence)


def _xen(root: Path) -> Iterator[BalloonDevice]:
    if names_in(root / _XEN) is not None:
        yield BalloonDevice(kind="xen", name="xen_memory0", works=True, evidence=f"/{_XEN} is there")


def _vmware(root: Path) -> Iterator[BalloonDevice]:
    there = [path for path in _VMWARE if is_there(root / path)]
    if there:
        # The module stays loaded outside of VMware only where its initialisation succeeded: it returns ENODEV there.
        evidence = f"/{there[0]} is there"
        yield BalloonDevice(kind="vmware", name="vmmemctl", works=True, evidence=evidence)
