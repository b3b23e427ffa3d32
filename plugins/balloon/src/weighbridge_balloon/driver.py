"""What the capability ``balloon`` gives to others."""

from __future__ import annotations

from pathlib import Path

import attrs
from weighbridge_hookspecs import Fact

from . import presence, virtio
from .presence import BalloonDevice


@attrs.frozen(kw_only=True)
class Driver:
    """What can take memory from this machine."""

    balloons: tuple[BalloonDevice, ...]
    pages_are_reported: bool | None
    """Whether free memory goes back by itself (virtio's free page reporting); None if that cannot be known."""

    @classmethod
    def find(cls, root: Path = Path("/")) -> Driver:
        """Look at the machine of this tree."""
        negotiated = [one.negotiated(virtio.REPORTING) for one in virtio.balloons(root)]
        return cls(balloons=presence.find(root), pages_are_reported=any(negotiated) if negotiated else None)

    def facts(self) -> tuple[Fact, ...]:
        """What was found, for people."""
        evidence = "; ".join(one.evidence for one in self.balloons) or "no device of any kind"
        return (Fact(subject="balloon", finding=str(bool(self.balloons)), evidence=evidence),)
