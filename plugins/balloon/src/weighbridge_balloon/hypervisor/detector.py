"""Asks every reader, and weighs what they come back with.

The heaviest piece of evidence names the nearest hypervisor; :class:`~.evidence.Weight` says which is how heavy, and
why. Among equals the first counts: CPUID, then in the order of ``_READERS``. Three things change that:

- What only the privileged part of a hypervisor sees (Xen's dom0, Hyper-V's root partition) is not a guest's: unless the
  firmware says otherwise, such a system is on bare metal.
- A hint counts only where nothing says that there is no hypervisor.
- KVM imitates Xen and Hyper-V, nobody imitates KVM but those that are unmasked by their firmware.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

from . import buses, clocks, container, cpuid, devicetree, dmi, instruction, kernel, xen
from .cpuid import Asked, Denied
from .evidence import Confidence, Container, Detection, Evidence, Kind, Look, Silence, Verdict, Weight

_READERS: Final[tuple[Callable[[Path], Look], ...]] = (
    xen.look,
    devicetree.look,
    dmi.look,
    buses.look,
    clocks.look,
    kernel.look,
)
# What may lie below the nearest one with its own firmware's texts passed on to the guest.
_PASSED_ON: Final[frozenset[Kind]] = frozenset({"vmware", "hyperv"})


def detect_here(*, allow_cpuid: bool = True) -> Detection:
    """What this machine runs under.

    :param allow_cpuid: whether machine code may be run to ask the processor; see :mod:`.instruction`.
    """
    with instruction.opened(allowed=allow_cpuid) as ask:
        if sys.platform == "win32":
            from . import windows

            return conclude(chain(cpuid.look(ask), windows.look()), Container(name=None))
        return detect(Path("/"), ask, os.environ)


def detect(root: Path, ask: Asked | Denied, environ: Mapping[str, str]) -> Detection:
    """What the machine of a tree runs under. It does not raise, whatever the tree holds.

    :param root: where its file system begins.
    :param ask: runs CPUID on it, or says why that cannot be.
    :param environ: the environment of the process in question.
    """
    seen = chain(cpuid.look(ask), *(reader(root) for reader in _READERS))
    return conclude(seen, container.detect(root, environ))


def conclude(seen: Look, within: Container) -> Detection:
    """The detection that what was seen comes to."""
    both = [*seen]
    evidence = sorted((one for one in both if isinstance(one, Evidence)), key=lambda one: -_weight(one))
    return Detection(
        verdict=judge(evidence),
        container=within,
        evidence=tuple(evidence),
        silent=tuple(one for one in both if isinstance(one, Silence)),
    )


def judge(evidence: Sequence[Evidence]) -> Verdict:
    """The verdict on evidence of which the heaviest comes first."""
    hosting = tuple(dict.fromkeys(one.kind for one in evidence if one.privileged and one.kind))
    denials = [one for one in evidence if one.kind == "none"]
    candidates = [*_candidates(evidence, hosting, denied=bool(denials or hosting))]
    if not candidates:
        confidence = _confidence_of_none(denials, hosting)
        return Verdict(kinds=("none" if confidence else "unknown",), hosting=hosting, confidence=confidence)
    nearest = _unmasked(candidates)
    return Verdict(
        kinds=(nearest.kind or "other", *_below(evidence, candidates, nearest)),
        product=next((one.product for one in candidates if one.product), None),
        hosting=hosting,
        confidence=_confidence(candidates, nearest),
    )


def _candidates(evidence: Sequence[Evidence], hosting: Sequence[Kind], *, denied: bool) -> Iterator[Evidence]:
    """What may name the nearest hypervisor."""
    for one in evidence:
        if one.kind in (None, "none") or (denied and one.weight is Weight.HINT):
            continue
        if one.outer:
            # What the hypervisor runs under that this system hosts, this system runs under itself.
            if one.kind in hosting:
                yield one
            continue
        # The privileged part of a hypervisor sees that one everywhere but in its firmware, which is the machine's.
        if hosting and one.source != "firmware" and (one.kind in hosting or one.weight is Weight.GENERIC):
            continue
        yield one


def _unmasked(candidates: Sequence[Evidence]) -> Evidence:
    first = candidates[0]
    if first.kind == "xen":
        # KVM can offer Xen's interface; Xen does not offer KVM's.
        return next((one for one in candidates if one.kind == "kvm" and one.weight is Weight.SAID), first)
    return first


def _below(evidence: Sequence[Evidence], candidates: Sequence[Evidence], nearest: Evidence) -> Iterator[Kind]:
    """What the nearest one runs under, as far as that can be seen."""
    firmware = [one.kind for one in candidates if one.source == "firmware" and one.kind in _PASSED_ON]
    yield from (kind for kind in firmware if kind and kind != nearest.kind)
    for one in evidence:
        # The signature of Hyper-V with this bit is no imitation.
        if one.outer and one.kind and one not in candidates and (one.source != "cpuid" or nearest.kind == one.kind):
            yield one.kind


def _weight(one: Evidence) -> int:
    return one.weight if one.kind else -1


def _confidence(candidates: Sequence[Evidence], nearest: Evidence) -> Confidence:
    agreeing = {one.source for one in candidates if one.kind == nearest.kind and one.weight > Weight.GENERIC}
    if nearest.weight >= Weight.SAID or len(agreeing) > 1:
        return "certain"
    return "weak" if nearest.weight <= Weight.HINT else "likely"


def _confidence_of_none(denials: Sequence[Evidence], hosting: Sequence[Kind]) -> Confidence | None:
    """None: nothing says that there is no hypervisor."""
    if hosting or any(one.source == "cpuid" for one in denials):
        return "certain"
    if denials:
        return "likely" if denials[0].weight > Weight.HINT else "weak"
    return None
