"""What the processor says about a hypervisor: the instruction CPUID, however it is run.

Leaves from 0x40000000 up belong to hypervisors; each puts its signature at a multiple of 0x100, so that one that
imitates another can keep its own further up. See https://docs.kernel.org/virt/kvm/x86/cpuid.html and
https://learn.microsoft.com/virtualization/hyper-v-on-windows/tlfs/feature-discovery
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, TypeAlias

from .evidence import Evidence, Kind, Look, Silence, Weight


class Registers(NamedTuple):
    """What the instruction leaves behind, each 32 bits."""

    eax: int
    ebx: int
    ecx: int
    edx: int


Cpuid: TypeAlias = Callable[[int], Registers]
"""Runs the instruction for one leaf, subleaf 0."""


class Asked(NamedTuple):
    """The instruction can be run."""

    run: Cpuid
    where: str = "CPUID"
    """By what means: ``CPUID`` itself, or a file that gives its answers."""


class Denied(NamedTuple):
    """The instruction cannot be run."""

    why: str


FIRST: Final = 0x40000000
LAST: Final = 0x40010000
STEP: Final = 0x100

_HYPERVISOR: Final = 1 << 31
# include/hyperv/hvgdk_mini.h: HV_CREATE_PARTITIONS in EBX of leaf 3, and HV_X64_HYPERV_NESTED in EAX of leaf 4. Some
# guests may create partitions, too (HV_PARTITION_TYPE_L1VH); those are known by their firmware.
_CREATE_PARTITIONS: Final = 1 << 0
_NESTED: Final = 1 << 12

_HYPERV: Final = "Microsoft Hv"
_SIGNATURES: Final[dict[str, tuple[Kind, str | None]]] = {
    "KVMKVMKVM": ("kvm", None),
    "Linux KVM Hv": ("kvm", None),
    "XenVMMXenVMM": ("xen", None),
    "VMwareVMware": ("vmware", None),
    "TCGTCGTCGTCG": ("qemu-tcg", "QEMU"),
    _HYPERV: ("hyperv", None),
    "VBoxVBoxVBox": ("other", "VirtualBox"),
    "prl hyperv": ("other", "Parallels"),
    "lrpepyh vr": ("other", "Parallels"),
    "bhyve bhyve": ("other", "bhyve"),
    "BHyVE BHyVE": ("other", "bhyve"),
    "OpenBSDVMM58": ("other", "OpenBSD vmm"),
    "___ NVMM ___": ("other", "NetBSD NVMM"),
    "HAXMHAXMHAXM": ("other", "Intel HAXM"),
    "ACRNACRNACRN": ("other", "ACRN"),
    "Jailhouse": ("other", "Jailhouse"),
    "QNXQVMBSQG": ("other", "QNX"),
    "SRESRESRESRE": ("other", "Lockheed Martin LMHS"),
    "UnisysSpar64": ("other", "Unisys s-Par"),
    "EVMMEVMMEVMM": ("other", "Intel KGT"),
}


def look(processor: Asked | Denied) -> Look:
    """What the processor says; silence if it cannot be asked."""
    if isinstance(processor, Denied):
        yield Silence(where="CPUID", why=processor.why)
        return
    cpuid, where = processor
    if _text(cpuid(0), order="bdc") == "VirtualApple":
        # Rosetta translates for Linux in virtual machines of macOS only.
        said, product = '"VirtualApple"', "Apple Virtualization"
        yield Evidence(source="cpuid", where=f"{where} 0x0", said=said, kind="other", product=product)
    if not cpuid(1).ecx & _HYPERVISOR:
        yield _bit(where, "no hypervisor", "none")
        return
    found = [*_signatures(cpuid)]
    if not found:
        yield _bit(where, "a hypervisor that gives no name", "other")
    for leaf, text in found:
        yield from _hyperv(processor, leaf) if text == _HYPERV else _named(where, leaf, text)


def _signatures(cpuid: Cpuid) -> Iterator[tuple[int, str]]:
    """Leaf and text of each signature.

    Where no hypervisor has a leaf, the answer is that of some other one, so that further up only what is known counts.
    """
    for leaf in range(FIRST, LAST, STEP):
        text = _text(cpuid(leaf), order="bcd")
        if text in _SIGNATURES or (leaf == FIRST and len(text) >= 4 and text.isascii() and text.isprintable()):
            yield leaf, text


def _bit(where: str, said: str, kind: Kind) -> Evidence:
    return Evidence(source="cpuid", where=f"{where} 0x1 ECX bit 31", said=said, kind=kind, weight=Weight.GENERIC)


def _named(where: str, leaf: int, text: str) -> Iterator[Evidence]:
    kind, product = _SIGNATURES.get(text, ("other", text))
    where, said = f"{where} {leaf:#x}", f'"{text}"'
    yield Evidence(source="cpuid", where=where, said=said, kind=kind, weight=Weight.SAID, product=product)


def _hyperv(processor: Asked, leaf: int) -> Iterator[Evidence]:
    """Hyper-V's signature says little: others imitate it, and its own root partition sees it, too."""
    cpuid, where = processor
    privileged = bool(cpuid(leaf + 3).ebx & _CREATE_PARTITIONS)
    yield Evidence(
        source="cpuid",
        where=f"{where} {leaf:#x}",
        said=f'"{_HYPERV}"',
        kind="hyperv",
        weight=Weight.CLOAK,
        privileged=privileged,
    )
    if privileged:
        said = "may create partitions: this is the root partition"
        yield Evidence(source="cpuid", where=f"{where} {leaf + 3:#x} EBX bit 0", said=said)
    if cpuid(leaf + 4).eax & _NESTED:
        at, said = f"{where} {leaf + 4:#x} EAX bit 12", "this Hyper-V runs under another one"
        yield Evidence(source="cpuid", where=at, said=said, kind="hyperv", weight=Weight.SAID, outer=True)


def _text(registers: Registers, *, order: str) -> str:
    """Twelve characters out of three registers; which ones first is another matter for leaf 0 than for the others."""
    parts = {"b": registers.ebx, "c": registers.ecx, "d": registers.edx}
    raw = b"".join((parts[name] & 0xFFFFFFFF).to_bytes(4, "little") for name in order)
    return raw.decode("latin-1").strip("\0 ")
