"""What a Xen domain holds and is to hold."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..kept import KeptFile
from .level import UNKNOWN, Level

_KIB: Final = 1024
_INFO: Final = "sys/devices/system/xen_memory/xen_memory0"


class XenLevel:
    """``info/current_kb`` and ``target_kb``: what the domain holds and what it is to come down to, in KiB.

    https://github.com/torvalds/linux/blob/v6.12/drivers/xen/xen-balloon.c. These are sizes of the domain and not of the
    balloon: what is wanted is their difference, and the size of the balloon is not said here.
    """

    def __init__(self, root: Path) -> None:
        self._current = KeptFile(root / _INFO / "info/current_kb")
        self._target = KeptFile(root / _INFO / "target_kb")

    @property
    def name(self) -> str:
        """The folder."""
        return f"/{_INFO}"

    @property
    def sees_target(self) -> bool:
        """Yes."""
        return True

    def read(self) -> Level:
        """What is wanted: current minus target."""
        current, target = _kilobytes(self._current.read()), _kilobytes(self._target.read())
        if current is None or target is None:
            return UNKNOWN
        return Level(wanted_bytes=(current - target) * _KIB)

    def close(self) -> None:
        """Close both files."""
        self._current.close()
        self._target.close()


def _kilobytes(text: bytes | None) -> int | None:
    digits = (text or b"").strip()
    return int(digits) if digits.isdigit() and len(digits) <= 18 else None
