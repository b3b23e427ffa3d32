"""Sizes in words: ``"24 MiB"`` to bytes and back."""

from __future__ import annotations

import re
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

# IEC 80000-13 for the binary units, SI for the decimal ones: https://physics.nist.gov/cuu/Units/binary.html
_UNITS: Final = {
    "": 1,
    "b": 1,
    "kib": KIB,
    "mib": MIB,
    "gib": GIB,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
}
_BINARY: Final = ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB"))
_SIZE: Final = re.compile(r"\s*(?P<whole>[+-]?[0-9]+)(?:\.(?P<fraction>[0-9]+))?\s*(?P<unit>[a-z]*)\s*", re.IGNORECASE)
_ACCEPTED: Final = "a whole number of bytes, or a number with B, KiB, MiB, GiB, kB, MB or GB, such as '64 MiB'"


def parse_bytes(size: int | str) -> int:
    """Turn ``"64 MiB"``, ``"1.5GiB"``, ``"4096"`` or ``4096`` into bytes.

    A fraction of a byte is dropped.

    :raises ValueError: if it is not a size, or is below 0.
    """
    if isinstance(size, int) and not isinstance(size, bool):
        exact = size
    else:
        match = _SIZE.fullmatch(size) if isinstance(size, str) else None
        if match is None or match["unit"].lower() not in _UNITS:
            raise ValueError(f"{size!r} is not a size: give {_ACCEPTED}")
        fraction = match["fraction"] or ""
        exact = int(match["whole"] + fraction) * _UNITS[match["unit"].lower()] // 10 ** len(fraction)
    if exact < 0:
        raise ValueError(f"{size!r} is below 0")
    return exact


def format_bytes(count: int | None) -> str:
    """Write a number of bytes for people, in binary units; None is ``"unknown"``.

    >>> format_bytes(25_165_824), format_bytes(-1536), format_bytes(None)
    ('24.0 MiB', '-1.5 KiB', 'unknown')
    """
    if count is None:
        return "unknown"
    for unit, name in _BINARY:
        if abs(count) >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B"


def format_at_least(count: int) -> str:
    """As :func:`format_bytes`, but never less than `count`: for advice that has to be enough.

    >>> format_at_least(25_165_825)
    '24.1 MiB'
    """
    for unit, name in _BINARY:
        if count >= unit:
            tenths = -(-count * 10 // unit)
            return f"{tenths // 10}.{tenths % 10} {name}"
    return f"{count} B"
