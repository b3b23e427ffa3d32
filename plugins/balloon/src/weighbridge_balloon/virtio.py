"""Virtio devices of this machine, and what the balloon among them negotiated.

Numbers: ``include/uapi/linux/virtio_ids.h``, ``include/uapi/linux/virtio_balloon.h`` and
``include/uapi/linux/virtio_config.h``. Files: ``drivers/virtio/virtio.c``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs

from .files import link_name, names_in, read_text

BALLOON: Final = 0x0005
DEVICES: Final = "sys/bus/virtio/devices"

MUST_TELL_HOST: Final = 0
STATS_VQ: Final = 1
DEFLATE_ON_OOM: Final = 2
FREE_PAGE_HINT: Final = 3
PAGE_POISON: Final = 4
REPORTING: Final = 5

FEATURES: Final = {
    MUST_TELL_HOST: "MUST_TELL_HOST",
    STATS_VQ: "STATS_VQ",
    DEFLATE_ON_OOM: "DEFLATE_ON_OOM",
    FREE_PAGE_HINT: "FREE_PAGE_HINT",
    PAGE_POISON: "PAGE_POISON",
    REPORTING: "REPORTING",
    # From here on it is the transport's, whatever the device is.
    28: "RING_INDIRECT_DESC",
    29: "RING_EVENT_IDX",
    32: "VERSION_1",
    33: "ACCESS_PLATFORM",
    34: "RING_PACKED",
    35: "IN_ORDER",
    36: "ORDER_PLATFORM",
    37: "SR_IOV",
    38: "NOTIFICATION_DATA",
    40: "RING_RESET",
}
"""Names of the bits of a balloon."""

_DRIVER_OK: Final = 0x4


@attrs.frozen(kw_only=True)
class VirtioDevice:
    """A device on the virtio bus."""

    name: str
    device_id: int
    """5 is a balloon."""
    driver: str | None
    """Who drives it; None: nobody does."""
    features: frozenset[int] | None
    """Numbers of the bits that device and driver agreed on; None: the file cannot be read."""
    is_running: bool | None
    """Whether the driver is ready (DRIVER_OK); None: the file cannot be read."""

    def negotiated(self, bit: int) -> bool | None:
        """Whether the two agreed on this bit; None if that cannot be known."""
        return None if self.features is None else bit in self.features

    def feature_names(self) -> tuple[str, ...]:
        """The bits of a balloon by name, a bit without one as its number; empty if they are not known."""
        return tuple(FEATURES.get(bit, str(bit)) for bit in sorted(self.features or ()))


def parse_features(text: str) -> frozenset[int] | None:
    """The numbers of the bits that are set in the file ``features``: one character for each, bit 0 first.

    None if it holds anything but 0 and 1.
    """
    if not text or set(text) - {"0", "1"}:
        return None
    return frozenset(bit for bit, character in enumerate(text) if character == "1")


def devices(root: Path = Path("/")) -> tuple[VirtioDevice, ...] | None:
    """Every virtio device, sorted by name; None if there is no such bus (no driver, or no rights)."""
    names = names_in(root / DEVICES)
    if names is None:
        return None
    found = (_device(root / DEVICES / name) for name in names)
    return tuple(one for one in found if one is not None)


def balloons(root: Path = Path("/")) -> tuple[VirtioDevice, ...]:
    """The balloons among the virtio devices; more than one is not usual."""
    return tuple(one for one in devices(root) or () if one.device_id == BALLOON)


def _device(path: Path) -> VirtioDevice | None:
    device_id, status = _hexadecimal(path / "device"), _hexadecimal(path / "status")
    if device_id is None:
        return None
    return VirtioDevice(
        name=path.name,
        device_id=device_id,
        driver=link_name(path / "driver"),
        features=parse_features(read_text(path / "features") or ""),
        is_running=None if status is None else bool(status & _DRIVER_OK),
    )


def _hexadecimal(path: Path) -> int | None:
    try:
        return int(read_text(path) or "", 16)
    except ValueError:
        return None
