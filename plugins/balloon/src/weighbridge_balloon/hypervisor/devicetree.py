"""What the device tree says, on machines that have one: ARM, POWER, RISC-V.

``Documentation/devicetree/bindings`` of the kernel: a hypervisor has a node of that name, with what it is compatible
to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..files import names_in, read_bytes, read_text
from .evidence import Evidence, Kind, Look, Weight

TREE: Final = "proc/device-tree"
_HYPERVISORS: Final[dict[str, Kind]] = {"linux,kvm": "kvm", "xen,xen": "xen", "vmware": "vmware"}
# The machines of QEMU; others imitate them: Firecracker, crosvm, kvmtool.
_MACHINES: Final[dict[str, str | None]] = {
    "linux,dummy-virt": None,
    "riscv-virtio": "QEMU",
    "qemu,pseries": "QEMU",
}


def look(root: Path) -> Look:
    """What the nodes of this tree say."""
    names = names_in(root / TREE)
    if names is None:
        return
    compatible = _words(root / TREE / "hypervisor" / "compatible")
    if compatible:
        yield _hypervisor(compatible)
        return
    machine = _words(root / TREE / "compatible")
    if known := [word for word in machine if word in _MACHINES]:
        where = f"/{TREE}/compatible"
        yield _node(where, known[0], "other", Weight.GENERIC, product=_MACHINES[known[0]])
    elif "ibm,partition-name" in names and "hmc-managed?" in names:
        yield _node(f"/{TREE}/ibm,partition-name", "a logical partition", "other", Weight.SAID, product="PowerVM")
    elif config := [name for name in names if "fw-cfg" in name]:
        yield _node(f"/{TREE}/{config[0]}", "there", "other", Weight.PRODUCT, product="QEMU")
    elif model := read_text(root / TREE / "model"):
        yield _node(f"/{TREE}/model", f'"{model}", and no node for a hypervisor', "none", Weight.HINT)


def _hypervisor(compatible: tuple[str, ...]) -> Evidence:
    where, said = f"/{TREE}/hypervisor/compatible", " ".join(compatible)
    for word in compatible:
        for text, kind in _HYPERVISORS.items():
            if word.startswith(text):
                return _node(where, said, kind, Weight.SAID)
    return _node(where, said, "other", Weight.SAID, product=compatible[0])


def _words(path: Path) -> tuple[str, ...]:
    """A property that is a list of texts, each with a NUL at its end."""
    content = read_bytes(path) or b""
    return tuple(word for word in content.decode("utf-8", "replace").split("\0") if word.strip())


def _node(where: str, said: str, kind: Kind, weight: Weight, *, product: str | None = None) -> Evidence:
    return Evidence(source="devicetree", where=where, said=said, kind=kind, weight=weight, product=product)
