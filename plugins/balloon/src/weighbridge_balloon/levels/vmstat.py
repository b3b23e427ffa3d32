"""The size of the balloon from /proc/vmstat, for kernels whose /proc/meminfo has no ``Balloon:``."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Final

from ..files import names_in, read_text
from ..kept import KeptFile
from .level import UNKNOWN, Level

_VIRTIO_BALLOON: Final = "0x0005"
_DIGITS: Final = 18


class VmstatLevel:
    """``nr_balloon_pages`` (Linux 6.16), or ``balloon_inflate`` minus ``balloon_deflate``, in pages.

    The older two are counted by the drivers of virtio and of VMware alone
    (https://github.com/torvalds/linux/blob/v6.12/mm/balloon_compaction.c and its callers), and they are there, at 0, on
    every machine whose kernel has a balloon driver built in. So 0 is a size where one of these drivers is at work, and
    says nothing elsewhere.
    """

    def __init__(self, root: Path) -> None:
        self._file = KeptFile(root / "proc/vmstat")
        self._is_counted = has_counting_driver(root)

    @property
    def name(self) -> str:
        """The file."""
        return "/proc/vmstat"

    @property
    def sees_target(self) -> bool:
        """No."""
        return False

    def read(self) -> Level:
        """The size; the target is not to be seen here."""
        text = self._file.read()
        return UNKNOWN if text is None else Level(actual_bytes=parse_vmstat(text, is_counted=self._is_counted))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def parse_vmstat(text: bytes, *, is_counted: bool) -> int | None:
    """Bytes in the balloon; None if the text does not say.

    :param is_counted: whether a driver is at work that counts ``balloon_inflate``.
    """
    text = b"\n" + text
    pages = _number(text, b"\nnr_balloon_pages ")
    if pages is not None:
        return pages * mmap.PAGESIZE
    inflated, deflated = _number(text, b"\nballoon_inflate "), _number(text, b"\nballoon_deflate ")
    if inflated is None or deflated is None or not (inflated or is_counted):
        return None
    return max(0, inflated - deflated) * mmap.PAGESIZE


def has_counting_driver(root: Path) -> bool:
    """Whether there is a virtio balloon, or the module of VMware's."""
    devices = root / "sys/bus/virtio/devices"
    kinds = (read_text(devices / name / "device") for name in names_in(devices) or ())
    return _VIRTIO_BALLOON in kinds or (root / "sys/module/vmw_balloon").is_dir()


def _number(text: bytes, name: bytes) -> int | None:
    start = text.find(name)
    if start < 0:
        return None
    end = text.find(b"\n", start + 1)
    digits = text[start + len(name) : end if end >= 0 else len(text)].strip()
    return int(digits) if digits.isdigit() and len(digits) <= _DIGITS else None
