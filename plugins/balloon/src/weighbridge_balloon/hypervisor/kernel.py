"""What the kernel says of the processor: ``/proc/cpuinfo``, and ``/proc/sysinfo`` on s390."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..files import read_text
from .evidence import Evidence, Kind, Look, Silence, Weight

PROCESSOR: Final = "proc/cpuinfo"
S390: Final = "proc/sysinfo"

_FLAGS: Final = re.compile(r"^flags\s*:(.*)$", re.MULTILINE)
_USER_MODE: Final = re.compile(r"^vendor_id\s*:\s*User Mode Linux", re.MULTILINE)
# arch/s390/kernel/sysinfo.c: VM00 is the nearest one, VM01 what that one runs under.
_CONTROL: Final = re.compile(r"^VM(\d+) Control Program:\s*(\S.*?)\s*$", re.MULTILINE)


def look(root: Path) -> Look:
    """Whether the processor's flags say that there is a hypervisor; on s390 also which."""
    yield from _control_programs(read_text(root / S390) or "")
    text = read_text(root / PROCESSOR)
    where = f"/{PROCESSOR}"
    if not text:
        yield Silence(where=where, why="cannot be read")
    elif _USER_MODE.search(text):
        yield _evidence(where, "User Mode Linux", "other", Weight.SAID, product="User Mode Linux")
    elif flags := _FLAGS.search(text):
        if "hypervisor" in flags[1].split():
            yield _evidence(where, "flag hypervisor", "other", Weight.GENERIC)
        else:
            yield _evidence(where, "no flag hypervisor", "none", Weight.GENERIC)


def _control_programs(text: str) -> Iterator[Evidence]:
    for number, name in _CONTROL.findall(text):
        kind: Kind = "kvm" if name.startswith("KVM") else "other"
        product = None if kind == "kvm" else name
        where = f"/{S390} VM{number}"
        yield _evidence(where, name, kind, Weight.SAID, product=product, outer=int(number) > 0)


def _evidence(
    where: str, said: str, kind: Kind, weight: Weight, *, product: str | None = None, outer: bool = False
) -> Evidence:
    return Evidence(source="kernel", where=where, said=said, kind=kind, weight=weight, product=product, outer=outer)
