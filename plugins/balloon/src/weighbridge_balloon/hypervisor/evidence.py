"""What was seen, and what it comes to."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import attrs

Kind: TypeAlias = Literal["vmware", "hyperv", "kvm", "xen", "qemu-tcg", "other", "none", "unknown"]
"""``"other"``: a virtual machine, under something else or under something that does not say its name. ``"none"``: no
virtual machine. ``"unknown"``: nothing that can be read here says either."""

Source: TypeAlias = Literal["cpuid", "xen", "firmware", "devicetree", "bus", "clock", "kernel"]
"""Which reader saw it; also how far it is believed, see :mod:`.detector`."""

Confidence: TypeAlias = Literal["certain", "likely", "weak"]
"""``"certain"``: the hypervisor said so itself. ``"likely"``: firmware or its devices did. ``"weak"``: a hint."""

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


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
    product: str | None = None
    """The name under which it is known, such as ``"VirtualBox"``, where that says more than the kind."""
    privileged: bool = False
    """The kind is there, but this is the part of the machine that runs it: Xen's dom0, Hyper-V's root partition."""
    hint: bool = False
    """Seen on machines without a hypervisor as well: it counts only if nothing says that there is none."""

    def __str__(self) -> str:
        return f"{self.where}: {self.said}"


@attrs.frozen(kw_only=True)
class Container:
    """Whether this process is in a container, whatever the machine is."""

    name: str | None
    """Such as ``"docker"``; ``"other"`` for one that does not say its name, ``"none"``, or None: it cannot be known."""
    evidence: tuple[Evidence, ...] = ()


@attrs.frozen(kw_only=True)
class Detection:
    """What this machine runs under."""

    kinds: tuple[Kind, ...]
    """The nearest hypervisor first, then what that one runs under as far as it can be seen; never empty."""
    product: str | None
    """What the nearest one is called, where that says more than its kind; None where nothing said so."""
    hosting: tuple[Kind, ...]
    """Hypervisors that this system is the privileged part of: it is not their guest."""
    confidence: Confidence | None
    """How far the nearest kind is to be believed; None if it is unknown."""
    container: Container
    evidence: tuple[Evidence, ...]
    """Everything that was seen, the most telling first."""
    silent: tuple[str, ...] = ()
    """Sources that could not be asked, each with the reason."""

    @property
    def kind(self) -> Kind:
        """The nearest hypervisor."""
        return self.kinds[0]

    @property
    def is_virtual(self) -> bool | None:
        """Whether this is a virtual machine; None if that is not known."""
        return None if self.kind == "unknown" else self.kind != "none"

    @property
    def reason(self) -> str:
        """What was seen, in one line."""
        seen = "; ".join(str(one) for one in self.evidence)
        missing = "; ".join(self.silent)
        return " -- ".join(text for text in (seen, f"not asked: {missing}" if missing else "") if text) or "nothing"
