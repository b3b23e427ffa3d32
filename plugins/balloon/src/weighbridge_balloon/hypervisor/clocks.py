"""Clocks that a hypervisor provides.

Read are those that are available: the one in use is often the plain counter of the processor, on virtual machines, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..files import names_in, read_text
from .evidence import Evidence, Kind, Look, Weight

SOURCES: Final = "sys/devices/system/clocksource/clocksource0/available_clocksource"
PRECISE: Final = "sys/class/ptp"

_SOURCES: Final[dict[str, tuple[Kind, Weight]]] = {
    "kvm-clock": ("kvm", Weight.NAMED),
    "xen": ("xen", Weight.NAMED),
    "hyperv_clocksource_tsc_page": ("hyperv", Weight.CLOAK),
    "hyperv_clocksource_msr": ("hyperv", Weight.CLOAK),
    "hyperv_clocksource": ("hyperv", Weight.CLOAK),
}
# drivers/ptp/ptp_kvm_common.c, ptp_vmw.c; drivers/hv/hv_util.c
_PRECISE: Final[dict[str, tuple[Kind, Weight]]] = {
    "KVM virtual PTP": ("kvm", Weight.NAMED),
    "ptp_vmw": ("vmware", Weight.NAMED),
    "hyperv": ("hyperv", Weight.NAMED),
}


def look(root: Path) -> Look:
    """Clock sources, and clocks of the class ptp."""
    for name in (read_text(root / SOURCES) or "").split():
        if name in _SOURCES:
            yield _clock(f"/{SOURCES}", name, *_SOURCES[name])
    for device in names_in(root / PRECISE) or ():
        name = read_text(root / PRECISE / device / "clock_name") or ""
        if name in _PRECISE:
            yield _clock(f"/{PRECISE}/{device}/clock_name", name, *_PRECISE[name])


def _clock(where: str, name: str, kind: Kind, weight: Weight) -> Evidence:
    return Evidence(source="clock", where=where, said=name, kind=kind, weight=weight)
