"""What a kernel on Xen shows of it: ``/sys/hypervisor`` and ``/proc/xen``.

``Documentation/ABI/stable/sysfs-hypervisor-xen`` and ``include/xen/interface/features.h`` of the kernel.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..files import read_text
from .evidence import Evidence, Look, Weight

TYPE: Final = "sys/hypervisor/type"
GUEST: Final = "sys/hypervisor/guest_type"
FEATURES: Final = "sys/hypervisor/properties/features"
CAPABILITIES: Final = "proc/xen/capabilities"
# XENFEAT_dom0
_DOM0: Final = 1 << 11


def look(root: Path) -> Look:
    """Whether this is a domain of Xen, and whether it is the one that runs the others."""
    capabilities, kind = read_text(root / CAPABILITIES), read_text(root / TYPE)
    if kind != "xen" and capabilities is None:
        return
    said = "xen" if kind == "xen" else "there"
    guest = read_text(root / GUEST)
    dom0 = _dom0(root, capabilities)
    yield Evidence(
        source="xen",
        where=f"/{TYPE}" if kind == "xen" else f"/{CAPABILITIES}",
        said=f"{said} ({guest})" if guest else said,
        kind="xen",
        weight=Weight.SAID,
        privileged=dom0 is not None,
    )
    if dom0 is not None:
        yield Evidence(source="xen", where=f"/{dom0}", said="this is dom0")


def _dom0(root: Path, capabilities: str | None) -> str | None:
    """The file that says that this is dom0."""
    if "control_d" in (capabilities or ""):
        return CAPABILITIES
    try:
        return FEATURES if int(read_text(root / FEATURES) or "", 16) & _DOM0 else None
    except ValueError:
        return None
