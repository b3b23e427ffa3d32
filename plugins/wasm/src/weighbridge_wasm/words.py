"""Figures in words, for people."""

from __future__ import annotations

from typing import Final

_SIZES: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_TIMES: Final = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


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
    if seconds >= 999.5:
        return f"{seconds:.0f} s"
    for unit, name in _TIMES:
        if seconds >= 0.9995 * unit:  # what three digits round up to the next unit
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds / 1e-9:.3g} ns"


def counted(number: int, noun: str) -> str:
    """A number of things, such as ``1 call`` and ``12,345 calls``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
