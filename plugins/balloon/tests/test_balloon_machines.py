"""Trees of machines as their kernels show them, and what each is taken for.

A tree has what matters on machines of that sort: files under ``/sys`` and ``/proc``, and what their processor answers
to CPUID.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from weighbridge_balloon.driver import find
from weighbridge_balloon.hypervisor import Detection, detect
from weighbridge_balloon.hypervisor.cpuid import Asked, Denied, Registers

# What Intel's processors and KVM answer to a leaf that nobody has: the last ordinary one.
BEYOND: Final = Registers(0x64, 0x64, 0x2, 0x0)
GUEST_BIT: Final = 1 << 31
NO_CPUID: Final = Denied("no such instruction on aarch64")

DMI: Final = "sys/class/dmi/id/"
VIRTIO: Final = "sys/bus/virtio/devices/"
CLOCKS: Final = "sys/devices/system/clocksource/clocksource0/available_clocksource"
BALLOON: Final = {
    VIRTIO + "virtio0/device": "0x0005\n",
    VIRTIO + "virtio0/status": "0x0000000f\n",
    VIRTIO + "virtio0/features": "0110010000000000000000000000000010000000\n",
    VIRTIO + "virtio0/driver": "-> ../../../../bus/virtio/drivers/virtio_balloon",
}
HV_BALLOON: Final = {
    "sys/bus/vmbus/devices/1eccfd72/class_id": "{525074dc-8985-46e2-8057-a307dc18a502}\n",
    "sys/bus/vmbus/devices/1eccfd72/driver": "-> ../../../bus/vmbus/drivers/hv_balloon",
}
INTEL: Final = {"proc/cpuinfo": "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vme de ssse3\n"}
GUEST: Final = {"proc/cpuinfo": "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vme hypervisor de\n"}
ARM: Final = {"proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd evtstrm aes\nCPU implementer\t: 0x41\n"}
HYPERV_DMI: Final = {DMI + "sys_vendor": "Microsoft Corporation\n", DMI + "product_name": "Virtual Machine\n"}


def dmi(vendor: str, product: str, **others: str) -> dict[str, str]:
    """The files in which the kernel shows what the firmware calls the machine."""
    return {DMI + name: f"{text}\n" for name, text in {"sys_vendor": vendor, "product_name": product, **others}.items()}


def signature(text: str, *, last: int = 1) -> Registers:
    """The registers that spell a signature of at most twelve characters."""
    raw = text.encode().ljust(12, b"\0")
    return Registers(last, *(int.from_bytes(raw[at : at + 4], "little") for at in (0, 4, 8)))


def processor(
    *names: str, guest: bool = True, vendor: str = "GenuineIntel", leaves: Mapping[int, Registers] | None = None
) -> Asked:
    """A processor whose hypervisor has one signature after another, and more leaves."""
    ebx, edx, ecx = (int.from_bytes(vendor.encode()[at : at + 4], "little") for at in (0, 4, 8))
    known = {0: Registers(0x20, ebx, ecx, edx), 1: Registers(0x50657, 0, GUEST_BIT if guest else 0, 0)}
    known |= {0x40000000 + 0x100 * number: signature(name) for number, name in enumerate(names)}
    known |= leaves or {}
    return Asked(lambda leaf: known.get(leaf, BEYOND))


def hyperv(*others: str, root: bool = False, nested: bool = False) -> Asked:
    """A processor with Hyper-V's leaves: what the partition may do, and what is recommended to it."""
    leaves = {0x40000003: Registers(0, int(root), 0, 0), 0x40000004: Registers(nested << 12, 0, 0, 0)}
    return processor("Microsoft Hv", *others, leaves=leaves)


BARE: Final = processor(guest=False)
KVM: Final = processor("KVMKVMKVM")


def plant(root: Path, files: Mapping[str, str]) -> None:
    """Write a tree; a text that begins with an arrow is a symbolic link."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("-> "):
            path.symlink_to(text.removeprefix("-> "))
        else:
            path.write_text(text)


@attrs.frozen(kw_only=True)
class Machine:
    """What a machine shows, and what it is."""

    files: Mapping[str, str]
    ask: Asked | Denied = NO_CPUID
    kinds: tuple[str, ...]
    product: str | None = None
    hosting: tuple[str, ...] = ()
    confidence: str | None = "certain"
    balloon: bool | None = False


BUSES: Final = {
    "sys/bus/pci/devices/0000:00:00.0/vendor": "0x8086\n",
    "sys/bus/pci/devices/0000:00:00.0/device": "0x1\n",
}
DOMAIN: Final = {"sys/hypervisor/type": "xen\n", "sys/hypervisor/properties/features": "000002fd\n"}
XEN_BALLOON: Final = {"sys/devices/system/xen_memory/xen_memory0/info/current_kb": "1048576\n"}

MACHINES: Final = {
    # -- KVM and what runs on it
    "Firecracker: no DMI": Machine(
        files=GUEST | BALLOON | {CLOCKS: "tsc kvm-clock\n"}, ask=KVM, kinds=("kvm",), balloon=True
    ),
    "QEMU with KVM": Machine(
        files=GUEST | BALLOON | dmi("QEMU", "Standard PC (Q35 + ICH9, 2009)", bios_vendor="SeaBIOS"),
        ask=KVM,
        kinds=("kvm",),
        product="QEMU",
        balloon=True,
    ),
    "QEMU without KVM": Machine(
        files=GUEST | BALLOON | dmi("QEMU", "Standard PC (i440FX + PIIX, 1996)"),
        ask=processor("TCGTCGTCGTCG"),
        kinds=("qemu-tcg",),
        product="QEMU",
        balloon=True,
    ),
    "KVM behind Hyper-V's leaves": Machine(
        files=GUEST | BALLOON | dmi("QEMU", "Standard PC (Q35 + ICH9, 2009)"),
        ask=hyperv("KVMKVMKVM"),
        kinds=("kvm",),
        product="QEMU",
        balloon=True,
    ),
    "KVM behind Hyper-V's leaves, clocks included": Machine(
        files=GUEST | BUSES | {CLOCKS: "hyperv_clocksource_tsc_page tsc acpi_pm\n"},
        ask=hyperv("KVMKVMKVM"),
        kinds=("kvm",),
    ),
    "KVM that hides behind Hyper-V's leaves": Machine(
        files=GUEST | dmi("QEMU", "Standard PC (Q35 + ICH9, 2009)") | {CLOCKS: "hyperv_clocksource_tsc_page tsc\n"},
        ask=hyperv(),
        kinds=("other",),
        product="QEMU",
        confidence="likely",
        balloon=None,
    ),
    "KVM that passes on what Hyper-V below it says": Machine(
        files=GUEST | BUSES,
        ask=processor(
            "Microsoft Hv",
            "KVMKVMKVM",
            leaves={0x40000003: Registers(0, 0, 0, 0), 0x40000004: Registers(1 << 12, 0, 0, 0)},
        ),
        kinds=("kvm",),
    ),
    "KVM that offers Xen's interface": Machine(
        files=GUEST | BUSES | {"sys/hypervisor/type": "xen\n", "sys/hypervisor/guest_type": "HVM\n"},
        ask=processor("XenVMMXenVMM", "KVMKVMKVM"),
        kinds=("kvm",),
    ),
    "KVM with the firmware texts of the VMware machine below": Machine(
        files=GUEST | BALLOON | dmi("VMware, Inc.", "VMware7,1"), ask=KVM, kinds=("kvm", "vmware"), balloon=True
    ),
    "a KVM guest whose processor may not be asked": Machine(
        files=GUEST | BUSES | {CLOCKS: "kvm-clock tsc\n"},
        ask=Denied("mprotect(PROT_EXEC): Permission denied"),
        kinds=("kvm",),
        confidence="likely",
    ),
    "KVM on ARM, by its clock": Machine(
        files=ARM
        | BALLOON
        | dmi("QEMU", "QEMU Virtual Machine")
        | {"sys/class/ptp/ptp0/clock_name": "KVM virtual PTP\n"},
        kinds=("kvm",),
        product="QEMU",
        confidence="likely",
        balloon=True,
    ),
    "QEMU on ARM: KVM or not does not show": Machine(
        files=ARM | dmi("QEMU", "QEMU Virtual Machine"),
        kinds=("other",),
        product="QEMU",
        confidence="likely",
        balloon=None,
    ),
    "Firecracker on ARM": Machine(
        files=ARM
        | BALLOON
        | {"proc/device-tree/compatible": "linux,dummy-virt\0", "proc/device-tree/model": "linux\0"},
        kinds=("other",),
        confidence="likely",
        balloon=True,
    ),
    "KVM on POWER": Machine(
        files={
            "proc/cpuinfo": "processor\t: 0\ncpu\t\t: POWER9\n",
            "proc/device-tree/hypervisor/compatible": "linux,kvm\0",
            "proc/device-tree/compatible": "qemu,pseries\0",
        }
        | BALLOON,
        kinds=("kvm",),
        balloon=True,
    ),
    "QEMU on RISC-V": Machine(
        files={"proc/device-tree/compatible": "riscv-virtio\0", "proc/device-tree/model": "riscv-virtio,qemu\0"},
        kinds=("other",),
        product="QEMU",
        confidence="likely",
        balloon=None,
    ),
    "KVM under z/VM on s390": Machine(
        files={
            "proc/cpuinfo": "vendor_id       : IBM/S390\n",
            "proc/sysinfo": "VM00 Name:   one\nVM00 Control Program: KVM/Linux\nVM01 Control Program: z/VM    7.3.0\n",
        },
        kinds=("kvm", "other"),
        balloon=None,
    ),
    # -- clouds
    "EC2 on Nitro": Machine(
        files=GUEST | BUSES | dmi("Amazon EC2", "m5.large"), ask=KVM, kinds=("kvm",), product="Amazon EC2"
    ),
    "EC2, a whole machine": Machine(files=INTEL | BUSES | dmi("Amazon EC2", "m5.metal"), ask=BARE, kinds=("none",)),
    "EC2, half a rack": Machine(files=INTEL | BUSES | dmi("Amazon EC2", "m7i.metal-24xl"), ask=BARE, kinds=("none",)),
    "EC2 on Graviton": Machine(
        files=ARM | BUSES | dmi("Amazon EC2", "c6g.large"), kinds=("kvm",), product="Amazon EC2", confidence="likely"
    ),
    "EC2 on Graviton, a whole machine": Machine(
        files=ARM | BUSES | dmi("Amazon EC2", "c6g.metal"), kinds=("none",), confidence="likely"
    ),
    "EC2 of former times": Machine(
        files=GUEST
        | XEN_BALLOON
        | dmi("Xen", "HVM domU", bios_version="4.11.amazon")
        | {"sys/hypervisor/type": "xen\n"},
        ask=processor("XenVMMXenVMM"),
        kinds=("xen",),
        balloon=True,
    ),
    "Google's": Machine(
        files=GUEST | BALLOON | dmi("Google", "Google Compute Engine"),
        ask=KVM,
        kinds=("kvm",),
        product="Google Compute Engine",
        balloon=True,
    ),
    "Google's, a whole machine": Machine(
        files=INTEL | dmi("Google", "Google Compute Engine"), ask=BARE, kinds=("none",)
    ),
    "Google's on ARM": Machine(
        files=ARM | BUSES | dmi("Google", "Google Compute Engine"),
        kinds=("kvm",),
        product="Google Compute Engine",
        confidence="weak",
    ),
    "OpenStack on VMware": Machine(
        files=GUEST | dmi("OpenStack Foundation", "OpenStack Nova"),
        ask=processor("VMwareVMware"),
        kinds=("vmware",),
        product="OpenStack",
        balloon=None,
    ),
    # -- VMware
    "VMware": Machine(
        files=GUEST
        | dmi("VMware, Inc.", "VMware Virtual Platform", bios_vendor="Phoenix Technologies LTD")
        | {"sys/module/vmw_balloon/refcnt": "0\n", "sys/bus/pci/devices/0000:00:0f.0/vendor": "0x15ad\n"},
        ask=processor("VMwareVMware"),
        kinds=("vmware",),
        balloon=True,
    ),
    "VMware that hides": Machine(
        files=INTEL | dmi("VMware, Inc.", "VMware20,1"), ask=BARE, kinds=("vmware",), confidence="likely", balloon=None
    ),
    "VMware, with nothing but an alias": Machine(
        files=GUEST | {DMI + "modalias": "dmi:bvnVMware,Inc.:bvrVMW71.00V:svnVMware,Inc.:pnVMware7,1:pvrNone:\n"},
        kinds=("vmware",),
        confidence="likely",
        balloon=None,
    ),
    "VMware with Hyper-V's interface": Machine(
        files=GUEST | dmi("VMware, Inc.", "VMware7,1"),
        ask=hyperv(),
        kinds=("vmware",),
        confidence="likely",
        balloon=None,
    ),
    # -- Hyper-V
    "Hyper-V, generation 1": Machine(
        files=GUEST
        | HV_BALLOON
        | HYPERV_DMI
        | {DMI + "product_version": "7.0\n", CLOCKS: "hyperv_clocksource_tsc_page\n"},
        ask=hyperv(),
        kinds=("hyperv",),
        balloon=True,
    ),
    "Azure without dynamic memory": Machine(
        files=GUEST | HYPERV_DMI | {"sys/bus/vmbus/devices/00000000-0001/class_id": "{f8615163-df3e-46c5-913f}\n"},
        ask=hyperv(),
        kinds=("hyperv",),
    ),
    "Hyper-V on ARM": Machine(
        files=ARM | HYPERV_DMI | HV_BALLOON, kinds=("hyperv",), confidence="certain", balloon=True
    ),
    "Hyper-V under Hyper-V": Machine(
        files=GUEST | HYPERV_DMI | HV_BALLOON,
        ask=hyperv(nested=True),
        kinds=("hyperv", "hyperv"),
        balloon=True,
    ),
    "Hyper-V's root partition": Machine(
        files=GUEST | dmi("Dell Inc.", "PowerEdge R740") | {CLOCKS: "hyperv_clocksource_tsc_page tsc\n"},
        ask=hyperv(root=True),
        kinds=("none",),
        hosting=("hyperv",),
    ),
    "a Surface with Windows' own isolation": Machine(
        files=GUEST | dmi("Microsoft Corporation", "Surface Laptop 4"),
        ask=hyperv(root=True),
        kinds=("none",),
        hosting=("hyperv",),
    ),
    "a root partition in a virtual machine": Machine(
        files=GUEST | HYPERV_DMI | BUSES,
        ask=hyperv(root=True, nested=True),
        kinds=("hyperv",),
        hosting=("hyperv",),
    ),
    "a root partition under another Hyper-V, without firmware": Machine(
        files=GUEST | BUSES,
        ask=hyperv(root=True, nested=True),
        kinds=("hyperv",),
        hosting=("hyperv",),
    ),
    "Windows' Linux": Machine(
        files=GUEST
        | {
            "sys/bus/vmbus/devices/0/class_id": "{1}\n",
            "proc/version": "Linux version 6.6.36-microsoft-standard-WSL2\n",
        },
        ask=hyperv(),
        kinds=("hyperv",),
    ),
    # -- Xen
    "a fully virtual domain of Xen": Machine(
        files=GUEST | XEN_BALLOON | dmi("Xen", "HVM domU") | DOMAIN,
        ask=processor("XenVMMXenVMM"),
        kinds=("xen",),
        balloon=True,
    ),
    "Xen behind Hyper-V's leaves": Machine(
        files=GUEST | dmi("Xen", "HVM domU") | {"sys/devices/system/cpu/online": "0\n"},
        ask=hyperv("XenVMMXenVMM"),
        kinds=("xen",),
    ),
    "a paravirtual domain of Xen": Machine(
        files=INTEL | XEN_BALLOON | {"sys/hypervisor/type": "xen\n", "proc/xen/capabilities": ""},
        ask=BARE,
        kinds=("xen",),
        balloon=True,
    ),
    "Xen's dom0, by its capabilities": Machine(
        files=INTEL
        | dmi("HP", "ProLiant DL380 Gen9")
        | {"sys/hypervisor/type": "xen\n", "proc/xen/capabilities": "control_d\n"},
        ask=BARE,
        kinds=("none",),
        hosting=("xen",),
    ),
    "Xen's dom0, by its features": Machine(
        files=GUEST
        | dmi("HP", "ProLiant DL380 Gen9")
        | {"sys/hypervisor/type": "xen\n", "sys/hypervisor/properties/features": "00002afd\n", CLOCKS: "tsc xen\n"},
        ask=processor("XenVMMXenVMM"),
        kinds=("none",),
        hosting=("xen",),
    ),
    "Xen's dom0, with a virtio card and no DMI": Machine(
        files={"sys/hypervisor/type": "xen\n", "sys/hypervisor/properties/features": "00000800\n"}
        | {"sys/bus/pci/devices/0000:3b:00.0/vendor": "0x1af4\n"},
        ask=processor("XenVMMXenVMM"),
        kinds=("none",),
        hosting=("xen",),
    ),
    "Xen's dom0, with a balloon of its own": Machine(
        files=INTEL | XEN_BALLOON | {"proc/xen/capabilities": "control_d\n"},
        ask=BARE,
        kinds=("none",),
        hosting=("xen",),
        balloon=True,
    ),
    "Xen's dom0 under VMware": Machine(
        files=GUEST | dmi("VMware, Inc.", "VMware7,1") | {"proc/xen/capabilities": "control_d\n"},
        ask=processor("XenVMMXenVMM"),
        kinds=("vmware",),
        hosting=("xen",),
        confidence="likely",
        balloon=None,
    ),
    "Xen on ARM": Machine(
        files=ARM | XEN_BALLOON | {"proc/device-tree/hypervisor/compatible": "xen,xen-4.17\0xen,xen\0"},
        kinds=("xen",),
        balloon=True,
    ),
    # -- others
    "VirtualBox, which answers as KVM": Machine(
        files=GUEST | dmi("innotek GmbH", "VirtualBox"), ask=KVM, kinds=("other",), product="VirtualBox", balloon=None
    ),
    "Parallels": Machine(
        files=GUEST | dmi("Parallels International GmbH.", "Parallels Virtual Platform"),
        ask=processor("prl hyperv"),
        kinds=("other",),
        product="Parallels",
        balloon=None,
    ),
    "bhyve": Machine(
        files=GUEST | dmi("FreeBSD", "BHYVE"),
        ask=processor("bhyve bhyve "),
        kinds=("other",),
        product="bhyve",
        balloon=None,
    ),
    "Apple's": Machine(
        files=ARM | dmi("Apple Inc.", "Apple Virtualization Generic Platform"),
        kinds=("other",),
        product="Apple Virtualization",
        confidence="likely",
        balloon=None,
    ),
    "Apple's, translated": Machine(
        files={},
        ask=processor(guest=False, vendor="VirtualApple"),
        kinds=("other",),
        product="Apple Virtualization",
        confidence="likely",
        balloon=None,
    ),
    "a hypervisor of which nobody has heard": Machine(
        files=GUEST, ask=processor("HomeMadeHv"), kinds=("other",), product="HomeMadeHv", balloon=None
    ),
    "a hypervisor without a name": Machine(
        files=GUEST, ask=processor(), kinds=("other",), confidence="likely", balloon=None
    ),
    "a flag, and nothing else": Machine(files=GUEST, kinds=("other",), confidence="likely", balloon=None),
    "a logical partition": Machine(
        files={
            "proc/device-tree/ibm,partition-name": "lpar7\0",
            "proc/device-tree/hmc-managed?": "\0",
            "proc/device-tree/model": "IBM,9009-42A\0",
        },
        kinds=("other",),
        product="PowerVM",
        balloon=None,
    ),
    "User Mode Linux": Machine(
        files={"proc/cpuinfo": "processor\t: 0\nvendor_id\t: User Mode Linux\nmode\t\t: skas\n"},
        kinds=("other",),
        product="User Mode Linux",
        balloon=None,
    ),
    # -- bare metal
    "a server": Machine(files=INTEL | dmi("Dell Inc.", "PowerEdge R750"), ask=BARE, kinds=("none",)),
    "a server with a virtio card": Machine(
        files=INTEL
        | dmi("Dell Inc.", "PowerEdge R750")
        | {"sys/bus/pci/devices/0000:3b:00.0/vendor": "0x1af4\n", VIRTIO + "virtio0/device": "0x0001\n"},
        ask=BARE,
        kinds=("none",),
    ),
    "a server whose kernel has VMware's driver built in": Machine(
        files=INTEL | dmi("Dell Inc.", "PowerEdge R750") | {"sys/module/vmw_balloon/parameters/x": "0\n"},
        ask=BARE,
        kinds=("none",),
    ),
    "a server of Oracle's": Machine(
        files=INTEL | dmi("Oracle Corporation", "ORACLE SERVER X8-2"), ask=BARE, kinds=("none",)
    ),
    "a server whose processor may not be asked": Machine(
        files=INTEL | dmi("Dell Inc.", "PowerEdge R750"), ask=Denied("off"), kinds=("none",), confidence="likely"
    ),
    "a Surface with Linux": Machine(
        files=INTEL | dmi("Microsoft Corporation", "Surface Laptop 3"), ask=BARE, kinds=("none",)
    ),
    "a laptop with free firmware": Machine(
        files=INTEL | dmi("Google", "Caroline", bios_vendor="coreboot"), ask=BARE, kinds=("none",)
    ),
    "a server with ARM": Machine(files=ARM | dmi("GIGABYTE", "R152-P30-00"), kinds=("none",), confidence="weak"),
    "a small computer": Machine(
        files=ARM
        | {"proc/device-tree/model": "Raspberry Pi 4 Model B\0", "proc/device-tree/compatible": "brcm,bcm2711\0"},
        kinds=("none",),
        confidence="weak",
    ),
    # -- nothing to go by
    "nothing": Machine(files={}, kinds=("unknown",), confidence=None, balloon=None),
    "ARM without firmware or devices": Machine(files=ARM, kinds=("unknown",), confidence=None, balloon=None),
}


def look(machine: Machine, root: Path) -> Detection:
    plant(root, machine.files)
    return detect(root, machine.ask, {})


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_machine_is_taken_for_what_it_is(machine: Machine, tmp_path: Path) -> None:
    """The kinds from the nearest one on, the name, what it hosts, and how far that is to be believed."""
    found = look(machine, tmp_path)
    verdict = found.verdict
    seen = {"kinds": verdict.kinds, "product": verdict.product, "hosting": verdict.hosting}
    assert seen == {"kinds": machine.kinds, "product": machine.product, "hosting": machine.hosting}, found.reason
    assert verdict.confidence == machine.confidence, found.reason


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_machine_has_a_balloon_or_not(machine: Machine, tmp_path: Path) -> None:
    """Available in a virtual machine that has one, not on bare metal, None where nobody can say; always with why."""
    driver = find(look(machine, tmp_path), tmp_path)
    assert driver.is_available is machine.balloon, driver.evidence
    assert driver.evidence


@pytest.mark.parametrize("machine", [one for one in MACHINES.values() if one.kinds != ("unknown",)])
def test_every_verdict_has_evidence_for_it(machine: Machine, tmp_path: Path) -> None:
    """Some file or register points to the kind that was found, or to what this system is itself the host of."""
    found = look(machine, tmp_path)
    pointing = {one.kind for one in found.evidence} | ({"none"} if found.verdict.hosting else set())
    assert set(found.kinds) <= pointing
    assert all(one.where and one.said for one in found.evidence)


def test_what_could_not_be_asked_is_said() -> None:
    """Where the processor may not be asked, and there is no DMI, the reasons are in the answer."""
    found = detect(Path("/nowhere/at/all"), Denied("off: the setting cpuid is false"), {})
    assert found.kind == "unknown"
    assert found.is_virtual is None
    assert "CPUID: off: the setting cpuid is false" in found.reason
    assert {one.where for one in found.silent} == {"CPUID", "/sys/class/dmi/id", "/proc/cpuinfo"}


def test_most_telling_evidence_comes_first(tmp_path: Path) -> None:
    """The signature of KVM stands before the clock, and that before the flag."""
    found = look(MACHINES["Firecracker: no DMI"], tmp_path)
    assert [one.source for one in found.evidence] == ["cpuid", "clock", "kernel", "bus"]


@pytest.mark.parametrize(("bit", "kinds"), [(b"\x10", ("kvm",)), (b"\x00", ("none",))], ids=["set", "not set"])
def test_firmware_of_a_cloud_says_whether_the_machine_is_whole(
    bit: bytes, kinds: tuple[str, ...], tmp_path: Path
) -> None:
    """A type of instance that nobody knows yet: the bit of the firmware decides, where root may read it."""
    plant(tmp_path, INTEL | dmi("Amazon EC2", "z9.whole"))
    entry = tmp_path / "sys/firmware/dmi/entries/0-0/raw"
    entry.parent.mkdir(parents=True)
    entry.write_bytes(bytes([0, 0x18, 0, 0]) + bytes(15) + bit + bytes(4) + b"BIOS\0\0")
    assert detect(tmp_path, NO_CPUID, {}).kinds == kinds


def test_detecting_here_finds_what_this_machine_says() -> None:
    """With the processor's word or without, the answer is the same; without, the reasons say so or a file stood in."""
    from weighbridge_balloon.hypervisor import detect_here

    asked, unasked = detect_here(), detect_here(allow_cpuid=False)
    assert "unknown" in {asked.kind, unasked.kind} or asked.kind == unasked.kind
    told: list[Any] = [one for one in unasked.silent if one.where == "CPUID"]
    assert told or any(one.where.startswith("/dev/cpu") for one in unasked.evidence)
