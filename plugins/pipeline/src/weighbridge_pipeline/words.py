"""Figures in words, for people."""

from __future__ import annotations

from typing import Final

_TIMES: Final = ((1e-6, "µs"), (1e-3, "ms"), (1.0, "s"))


def in_time(seconds: float | None) -> str:
    """A time with three digits that count, such as ``12.3 ms``; a dash where there is none."""
    if seconds is None:
        return "-"
    for unit, name in _TIMES:
        text = f"{seconds / unit:.3g}"
        if "e+" not in text:  # from 999.5 on three digits do not do
            return f"{text} {name}"
    return f"{seconds:.0f} s"


def counted(number: int, noun: str) -> str:
    """A number of things, such as ``1 stage`` and ``12,345 stages``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
