"""What the hypervisor can have: free memory in blocks that are large enough to be reported to it.

The kernel reports free blocks of ``page_reporting_order`` and above, 2 s after such a block became free and a sixteenth
of them at a time, so that all are with the hypervisor about 30 s later
(https://github.com/torvalds/linux/blob/v6.12/mm/page_reporting.c). Memory that is free in smaller pieces never gets
there. How much has been reported already the kernel does not say.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Final

import attrs

from .files import read_bytes, read_text
from .virtio import REPORTING, balloons

DUE_SECONDS: Final = 30.0
"""After this time what could be reported is with the hypervisor, on a machine that is not busy."""
_PARAMETER: Final = "sys/module/page_reporting/parameters/page_reporting_order"
_HUGE_PAGE: Final = "sys/kernel/mm/transparent_hugepage/hpage_pmd_size"
_MOST_ORDERS: Final = 64
_DIGITS: Final = 15


@attrs.frozen(kw_only=True)
class Offer:
    """What lies ready for the hypervisor."""

    reportable_bytes: int | None
    """Free in blocks of `order` and above; None if the kernel does not show its free blocks, or nobody knows the
    order."""
    order: int | None
    """A block has ``2 ** order`` pages."""
    is_reported: bool | None
    """Whether free pages are reported at all; without it, the hypervisor gets what the balloon takes. None: unknown."""


def read_offer(root: Path) -> Offer:
    """Look at /proc/buddyinfo, and at what the balloon's driver has negotiated."""
    return read_blocks(root, is_reported=is_reporting(root))


def read_blocks(root: Path, *, is_reported: bool | None) -> Offer:
    """Look at /proc/buddyinfo alone: what the driver has negotiated stays as it is, and finding it out takes longer."""
    order = reporting_order(root)
    text = None if order is None else read_bytes(root / "proc/buddyinfo")
    reportable = None if text is None or order is None else free_bytes(text, order)
    return Offer(reportable_bytes=reportable, order=order, is_reported=is_reported)


def free_bytes(text: bytes, order: int) -> int | None:
    """Bytes free in blocks of at least this order, over all zones; None if the text shows no block at all.

    The text is that of https://docs.kernel.org/filesystems/proc.html#buddyinfo: a line for each zone, and in it the
    number of free blocks of order 0, 1, 2 and so on.
    """
    zones = [counts for line in text.splitlines() if (counts := _counts(line))]
    if not zones:
        return None
    pages = sum(count << exponent for counts in zones for exponent, count in enumerate(counts) if exponent >= order)
    return pages * mmap.PAGESIZE


def reporting_order(root: Path) -> int | None:
    """The least order that is reported; None if it cannot be known.

    The parameter is -1 until a driver has asked for reporting, and missing on kernels before 5.14: it will be, or is,
    the order of a huge page.
    """
    text = read_text(root / _PARAMETER)
    if text is not None and text.isdigit() and int(text) < _MOST_ORDERS:
        return int(text)
    size = read_text(root / _HUGE_PAGE)
    if size is None or not size.isdigit() or len(size) > _DIGITS or int(size) < mmap.PAGESIZE:
        return None
    return (int(size) // mmap.PAGESIZE).bit_length() - 1


def is_reporting(root: Path) -> bool | None:
    """Whether a balloon here reports free pages (feature bit 5 of virtio's); None where there is no such balloon."""
    negotiated = [device.negotiated(REPORTING) for device in balloons(root)]
    if any(negotiated):
        return True
    return False if negotiated and all(one is False for one in negotiated) else None


def _counts(line: bytes) -> list[int]:
    """The numbers of free blocks on a line; none if it is no such line."""
    head, found, tail = line.partition(b"zone")
    words = tail.split()[1:]
    if not found or not head.startswith(b"Node") or not all(word.isdigit() and len(word) <= _DIGITS for word in words):
        return []
    return [int(word) for word in words[:_MOST_ORDERS]]
