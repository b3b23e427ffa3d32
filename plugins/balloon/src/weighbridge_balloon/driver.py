"""Whether this machine has a balloon, and whose: what the capability ``balloon`` says of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import attrs
from weighbridge_hookspecs import Fact

from . import presence, virtio
from .control import PressureControl
from .files import names_in
from .hypervisor import Detection, Kind
from .presence import BalloonDevice

# The folder that has the balloon of this kind of hypervisor, or of which it can be said that it has none. Not VMware:
# its driver has no device, and where it is built into the kernel nothing shows it but a file that is root's.
_FOLDERS: Final[dict[Kind, str]] = {
    "kvm": "sys/bus",
    "qemu-tcg": "sys/bus",
    "hyperv": "sys/bus",
    "xen": "sys/devices/system",
}


@attrs.frozen(kw_only=True)
class Driver:
    """What can take memory from this machine."""

    hypervisor: Detection
    is_available: bool | None
    """Whether a hypervisor can take memory back through a balloon; None if that cannot be known."""
    evidence: str
    """Why, in one line."""
    balloons: tuple[BalloonDevice, ...]
    pages_are_reported: bool | None
    """Whether free memory goes back by itself (virtio's free page reporting); None if that cannot be known."""
    pressure: PressureControl | None = attrs.field(default=None, eq=False, repr=False)
    """Watches the machine and has memory released; None where nobody does."""

    def details(self) -> dict[str, str]:
        """What goes into the capability's entry, for people."""
        return {fact.subject: _word(fact.finding) for fact in self.facts()}

    def facts(self) -> tuple[Fact, ...]:
        """What was found about this machine, and how."""
        return (
            Fact(subject="hypervisor", finding=_words(self.hypervisor), evidence=self.hypervisor.reason),
            Fact(
                subject="container",
                finding=self.hypervisor.container.name,
                evidence=self.hypervisor.container.reason,
            ),
            Fact(subject="balloon", finding=_answer(self.is_available), evidence=self.evidence),
            Fact(subject="page reporting", finding=_answer(self.pages_are_reported), evidence=self._reporting()),
        )

    def _reporting(self) -> str:
        said = {True: "negotiated", False: "not negotiated", None: "no virtio balloon whose features can be read"}
        return f"feature bit {virtio.REPORTING} of virtio's balloon: {said[self.pages_are_reported]}"


def find(hypervisor: Detection, root: Path = Path("/")) -> Driver:
    """Look for a balloon in the tree of a machine of which the hypervisor is known."""
    balloons = tuple(one for one in presence.find(root) if _is_credible(one, hypervisor))
    available, evidence = _availability(hypervisor, balloons, root)
    return Driver(
        hypervisor=hypervisor,
        is_available=available,
        evidence=evidence,
        balloons=balloons,
        pages_are_reported=_reports(virtio.balloons(root)),
    )


def _is_credible(balloon: BalloonDevice, hypervisor: Detection) -> bool:
    """VMware's module may be built into a kernel that runs elsewhere; all others are devices."""
    return balloon.kind != "vmware" or hypervisor.kind in {"vmware", "unknown"}


def _availability(hypervisor: Detection, balloons: Sequence[BalloonDevice], root: Path) -> tuple[bool | None, str]:
    if balloons:
        works = {one.works for one in balloons}
        answer = True if True in works else None if None in works else False
        return answer, "; ".join(one.evidence for one in balloons)
    if hypervisor.kind == "none":
        return False, f"no virtual machine: {hypervisor.reason}"
    folder = _FOLDERS.get(hypervisor.kind)
    if folder and names_in(root / folder):
        return False, f"a virtual machine under {hypervisor.kind}, and no balloon in /{folder}"
    return None, f"hypervisor {hypervisor.kind}, and no balloon that can be seen"


def _reports(balloons: Sequence[virtio.VirtioDevice]) -> bool | None:
    answers = [one.negotiated(virtio.REPORTING) for one in balloons]
    return True if True in answers else None if None in answers or not answers else False


def _words(hypervisor: Detection) -> str | None:
    """The kinds and what else is known, in words; None for unknown."""
    if hypervisor.kind == "unknown":
        return None
    verdict = hypervisor.verdict
    text = " under ".join(verdict.kinds)
    notes = [verdict.product, *(f"hosting {kind}" for kind in verdict.hosting)]
    known = ", ".join(note for note in notes if note)
    return f"{text} ({known})" if known else text


def _answer(value: bool | None) -> str | None:
    return None if value is None else "yes" if value else "no"


def _word(finding: str | None) -> str:
    return "unknown" if finding is None else finding
