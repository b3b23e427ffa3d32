"""Figures in words, for people."""

from __future__ import annotations

from typing import Final

_SIZES: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_TIMES: Final = ((1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"), (1.0, "s"))


def in_bytes(nbytes: int | None) -> str:
    """A number of bytes, such as ``1.5 MiB``; None is unknown."""
    if nbytes is None:
        return "unknown"
    amount, unit = float(nbytes), 0
    while round(abs(amount), 1) >= 1024 and unit < len(_SIZES) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.1f} {_SIZES[unit]}" if unit else f"{nbytes} B"


def in_time(seconds: float) -> str:
    """A time with three digits that count, such as ``12.3 µs``."""
    for unit, name in _TIMES:
        text = f"{seconds / unit:.3g}"
        if "e+" not in text:  # from 999.5 on three digits do not do
            return f"{text} {name}"
    return f"{seconds:.0f} s"


def counted(number: int, noun: str) -> str:
    """A number of things, such as ``1 call`` and ``12,345 calls``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
