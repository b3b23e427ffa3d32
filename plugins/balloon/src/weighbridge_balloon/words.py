"""Sizes in words."""

from __future__ import annotations

from typing import Final

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


def in_words(nbytes: int | None) -> str:
    """Such as ``1.5 MiB``; "an unknown amount" for None."""
    if nbytes is None:
        return "an unknown amount"
    size, unit = float(nbytes), 0
    while abs(size) >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.1f} {_UNITS[unit]}" if unit else f"{nbytes} B"
