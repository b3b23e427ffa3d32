"""What was seen, and what it comes to."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Final, Literal, TypeAlias, get_args

import attrs

Kind: TypeAlias = Literal["vmware", "hyperv", "kvm", "xen", "qemu-tcg", "other", "none", "unknown"]
"""``"other"``: a virtual machine, under something else or under something that does not say its name. ``"none"``: no
virtual machine. ``"unknown"``: nothing that can be read here says either."""

Source: TypeAlias = Literal["cpuid", "xen", "firmware", "devicetree", "bus", "clock", "kernel"]
"""Which reader saw it."""

Confidence: TypeAlias = Literal["certain", "likely", "weak"]
"""``"certain"``: the hypervisor or the processor said so, or two sources agree. ``"likely"``: firmware or devices did.
``"weak"``: a hint."""

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


class Weight(IntEnum):
    """How far a piece of evidence is believed; the heaviest decides."""

    HINT = 0
    """Seen on bare metal, too: virtio cards, firmware of a cloud that also lets out whole machines."""
    GENERIC = 1
    """There is a hypervisor, but it does not say which."""
    CLOAK = 2
    """What other hypervisors put on: Hyper-V's interface, which KVM, Xen, VMware and VirtualBox offer as well."""
    PRODUCT = 3
    """A program that runs on more than one hypervisor: QEMU."""
    NAMED = 4
    """Firmware or a device that only this one has."""
    SAID = 5
    """The hypervisor's own word: a signature, a node in the device tree, ``/sys/hypervisor``."""
    UNMASKED = 6
    """Firmware of one that is known to answer with the signature of another."""


@attrs.frozen(kw_only=True)
class Evidence:
    """One thing that was seen."""

    source: Source
    where: str
    """The file, register or call."""
    said: str
    """What it held, in words."""
    kind: Kind | None = None
    """What that points to; None: it says nothing about the kind, but belongs to the picture."""
    weight: Weight = Weight.NAMED
    product: str | None = None
    """The name under which it is known, such as ``"VirtualBox"``, where that says more than the kind."""
    privileged: bool = False
    """The kind is there, but this is the part of the machine that runs it: Xen's dom0, Hyper-V's root partition."""
    outer: bool = False
    """It is not the nearest one, but what that one runs under."""

    def __str__(self) -> str:
        return f"{self.where}: {self.said}"


@attrs.frozen(kw_only=True)
class Silence:
    """A source that could not be asked."""

    where: str
    why: str

    def __str__(self) -> str:
        return f"{self.where}: {self.why}"


Look: TypeAlias = Iterator[Evidence | Silence]
"""What a reader comes back with."""


@attrs.frozen(kw_only=True)
class Container:
    """Whether this process is in a container, whatever the machine is."""

    name: str | None
    """Such as ``"docker"``; ``"other"`` for one that does not say its name, ``"none"``, or None: it cannot be known."""
    evidence: tuple[Evidence, ...] = ()

    @property
    def reason(self) -> str:
        """What was seen, in one line."""
        return "; ".join(map(str, self.evidence)) or "nothing that says so can be read"


@attrs.frozen(kw_only=True)
class Verdict:
    """What all the evidence comes to."""

    kinds: tuple[Kind, ...]
    """The nearest hypervisor first, then what that one runs under as far as it can be seen; never empty."""
    product: str | None = None
    """What the nearest one is called, where that says more than its kind; None where nothing said so."""
    hosting: tuple[Kind, ...] = ()
    """Hypervisors that this system is the privileged part of: it is not their guest."""
    confidence: Confidence | None = None
    """How far the nearest kind is to be believed; None if it is unknown."""


@attrs.frozen(kw_only=True)
class Detection:
    """What this machine runs under."""

    verdict: Verdict
    container: Container
    evidence: tuple[Evidence, ...]
    """Everything that was seen, the most telling first."""
    silent: tuple[Silence, ...] = ()
    """Sources that could not be asked."""

    @property
    def kind(self) -> Kind:
        """The nearest hypervisor."""
        return self.verdict.kinds[0]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The nearest hypervisor, then what that one runs under as far as it can be seen."""
        return self.verdict.kinds

    @property
    def is_virtual(self) -> bool | None:
        """Whether this is a virtual machine; None if that is not known."""
        return None if self.kind == "unknown" else self.kind != "none"

    @property
    def reason(self) -> str:
        """What was seen, and who could not be asked, in one line."""
        seen = [str(one) for one in self.evidence]
        return "; ".join(seen + [f"not asked: {one}" for one in self.silent]) or "nothing can be read"
