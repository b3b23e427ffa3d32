"""What the kernel says of the processor: ``/proc/cpuinfo``, and ``/proc/sysinfo`` on s390."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..files import read_text
from .evidence import Evidence, Kind, Look, Silence, Weight

PROCESSOR: Final = "proc/cpuinfo"
S390: Final = "proc/sysinfo"

# arch/s390/kernel/sysinfo.c: VM00 is the nearest one, VM01 what that one runs under.
_CONTROL: Final = "Control Program"


def look(root: Path) -> Look:
    """Whether the processor's flags say that there is a hypervisor; on s390 also which."""
    yield from _control_programs(read_text(root / S390) or "")
    text = read_text(root / PROCESSOR)
    where = f"/{PROCESSOR}"
    if not text:
        yield Silence(where=where, why="cannot be read")
    elif _value(text, "vendor_id") == "User Mode Linux":
        yield _evidence(where, "User Mode Linux", "other", Weight.SAID, product="User Mode Linux")
    elif (flags := _value(text, "flags")) is not None:
        if "hypervisor" in flags.split():
            yield _evidence(where, "flag hypervisor", "other", Weight.GENERIC)
        else:
            yield _evidence(where, "no flag hypervisor", "none", Weight.GENERIC)


def _value(text: str, key: str) -> str | None:
    """What stands behind the colon in the first line of this name; None if there is no such line."""
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip() == key:
            return value.strip()
    return None


def _control_programs(text: str) -> Iterator[Evidence]:
    for line in text.splitlines():
        key, _, value = line.partition(":")
        level, _, what = key.partition(" ")
        if level.startswith("VM") and what.strip() == _CONTROL and (name := value.strip()):
            kind: Kind = "kvm" if name.startswith("KVM") else "other"
            product = None if kind == "kvm" else name
            where = f"/{S390} {level}"
            yield _evidence(where, name, kind, Weight.SAID, product=product, outer=level != "VM00")


def _evidence(
    where: str, said: str, kind: Kind, weight: Weight, *, product: str | None = None, outer: bool = False
) -> Evidence:
    return Evidence(source="kernel", where=where, said=said, kind=kind, weight=weight, product=product, outer=outer)
