"""What the firmware calls the machine: DMI strings, which the kernel shows in ``/sys/class/dmi/id``.

Names are those that the makers put there; see also ``src/basic/virt.c`` of systemd, whose issues 21468, 21816 and 28113
are about machines that were taken for what they are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from ..files import read_bytes, read_text
from .evidence import Evidence, Kind, Look, Silence, Weight
from .smbios import is_virtual

FOLDER: Final = "sys/class/dmi/id"
BIOS: Final = "sys/firmware/dmi/entries/0-0/raw"
_AMAZON: Final = "Amazon EC2"
FIELDS: Final = ("product_name", "sys_vendor", "board_vendor", "bios_vendor", "product_version")
# Where the files are missing, the one from which udev makes a module alias may be there; it has no spaces.
_ALIAS: Final = {"bvn": "bios_vendor", "svn": "sys_vendor", "pn": "product_name", "pvr": "product_version"}


class _Rule(NamedTuple):
    """Which text at the beginning of which field means what; every field that is given must fit."""

    kind: Kind
    weight: Weight
    product: str | None
    fields: Mapping[str, str]


# The first that fits counts.
_RULES: Final = (
    _Rule("other", Weight.UNMASKED, "VirtualBox", {"product_name": "VirtualBox"}),
    _Rule("other", Weight.UNMASKED, "VirtualBox", {"sys_vendor": "innotek GmbH"}),
    _Rule("other", Weight.UNMASKED, "Parallels", {"sys_vendor": "Parallels"}),
    _Rule("other", Weight.UNMASKED, "Parallels", {"product_name": "Parallels"}),
    _Rule("kvm", Weight.NAMED, _AMAZON, {"sys_vendor": _AMAZON}),
    _Rule("vmware", Weight.NAMED, None, {"sys_vendor": "VMware"}),
    _Rule("vmware", Weight.NAMED, None, {"product_name": "VMware"}),
    # Both: the vendor alone is on every Surface.
    _Rule("hyperv", Weight.NAMED, None, {"sys_vendor": "Microsoft Corporation", "product_name": "Virtual Machine"}),
    _Rule("xen", Weight.NAMED, None, {"sys_vendor": "Xen"}),
    _Rule("xen", Weight.NAMED, None, {"product_name": "HVM domU"}),
    _Rule("other", Weight.NAMED, "bhyve", {"product_name": "BHYVE"}),
    _Rule("other", Weight.NAMED, "Apple Virtualization", {"product_name": "Apple Virtualization"}),
    _Rule("other", Weight.NAMED, "Apple Virtualization", {"sys_vendor": "Apple Inc", "product_name": "VirtualMac"}),
    _Rule("kvm", Weight.NAMED, "oVirt", {"product_name": "oVirt"}),
    _Rule("kvm", Weight.NAMED, "Red Hat Virtualization", {"product_name": "RHEV"}),
    _Rule("kvm", Weight.NAMED, "Nutanix AHV", {"sys_vendor": "Nutanix", "product_name": "AHV"}),
    _Rule("kvm", Weight.NAMED, "KubeVirt", {"sys_vendor": "KubeVirt"}),
    _Rule("kvm", Weight.NAMED, None, {"product_name": "KVM"}),
    _Rule("other", Weight.PRODUCT, "crosvm", {"product_name": "crosvm"}),
    _Rule("other", Weight.PRODUCT, "Cloud Hypervisor", {"sys_vendor": "Cloud Hypervisor"}),
    _Rule("other", Weight.PRODUCT, "OpenStack", {"product_name": "OpenStack"}),
    _Rule("other", Weight.PRODUCT, "OpenStack", {"sys_vendor": "OpenStack"}),
    _Rule("other", Weight.PRODUCT, "QEMU", {"sys_vendor": "QEMU"}),
    _Rule("other", Weight.PRODUCT, "Bochs", {"bios_vendor": "Bochs"}),
    # These clouds let out whole machines with the same texts.
    _Rule("kvm", Weight.HINT, "Google Compute Engine", {"product_name": "Google Compute Engine"}),
    _Rule("other", Weight.HINT, "Alibaba Cloud", {"sys_vendor": "Alibaba Cloud"}),
    _Rule("other", Weight.HINT, "Hetzner", {"sys_vendor": "Hetzner", "product_name": "vServer"}),
    _Rule("other", Weight.HINT, "DigitalOcean", {"sys_vendor": "DigitalOcean"}),
)
_BARE_METAL: Final = _Rule("none", Weight.NAMED, _AMAZON, {})
_NOTHING: Final = _Rule("none", Weight.HINT, None, {})


def look(root: Path) -> Look:
    """What the kernel shows of the firmware's tables."""
    fields = read_fields(root)
    if not fields:
        yield Silence(where=f"/{FOLDER}", why="not there: no DMI, or a container that hides it")
        return
    raw = read_bytes(root / BIOS)
    yield from judge(fields, where=f"/{FOLDER}", vm_bit=None if raw is None else is_virtual(raw))


def read_fields(root: Path) -> dict[str, str]:
    """The texts that can be read and are not empty, by the name of their file."""
    texts = {name: read_text(root / FOLDER / name) for name in FIELDS}
    found = {name: text for name, text in texts.items() if text}
    return found or parse_alias(read_text(root / FOLDER / "modalias") or "")


def parse_alias(alias: str) -> dict[str, str]:
    """The same texts out of ``modalias``, which has no spaces in them: ``dmi:bvnSeaBIOS:...:svnQEMU:pn...:``."""
    found = {}
    for part in alias.removeprefix("dmi:").split(":"):
        for short, name in _ALIAS.items():
            if part.startswith(short) and part != short:
                found[name] = part.removeprefix(short)
    return found


def judge(fields: Mapping[str, str], *, where: str, vm_bit: bool | None = None) -> Iterator[Evidence]:
    """What the texts mean.

    :param vm_bit: whether the firmware says that it is a virtual machine's; None where that cannot be read.
    """
    said = ", ".join(f'{name} "{fields[name]}"' for name in FIELDS if name in fields)
    rule = _rule(fields)
    weight = Weight.HINT if vm_bit is False and rule.product == _AMAZON else rule.weight
    yield Evidence(source="firmware", where=where, said=said, kind=rule.kind, weight=weight, product=rule.product)
    if vm_bit is not None:
        yield _bit(vm_bit)


def _rule(fields: Mapping[str, str]) -> _Rule:
    """The rule that fits; where none does, nothing is proven: a hypervisor may show the texts of its own machine."""
    found = next((rule for rule in _RULES if _fits(rule, fields)), _NOTHING)
    if found.product == _AMAZON and _is_metal(fields.get("product_name", "")):
        return _BARE_METAL
    return found


def _fits(rule: _Rule, fields: Mapping[str, str]) -> bool:
    """Spaces do not count, since an alias has none."""
    return all(_packed(fields.get(name, "")).startswith(_packed(text)) for name, text in rule.fields.items())


def _packed(text: str) -> str:
    return text.replace(" ", "")


def _is_metal(product: str) -> bool:
    """Whether a type of instance is a whole machine: ``m5.metal``, ``m7i.metal-24xl``."""
    size = product.partition(".")[2]
    return size == "metal" or size.startswith("metal-")


def _bit(is_set: bool) -> Evidence:
    return Evidence(
        source="firmware",
        where="SMBIOS type 0, extension byte 2, bit 4",
        said="this is a virtual machine" if is_set else "not set",
        kind="other" if is_set else None,
        weight=Weight.GENERIC,
    )
