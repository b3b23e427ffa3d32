"""How many bytes have to be released: plain arithmetic on figures."""

from __future__ import annotations

from typing import Final

from .gauge import Figures

_SHARE: Final = 16
_LEAST: Final = 32 * 1024 * 1024
_MOST: Final = 256 * 1024 * 1024


def default_reserve(figures: Figures) -> int:
    """A sixteenth of the machine's memory with what the balloon holds, from 32 to 256 MiB.

    A balloon of virtio takes 300 to 430 MB a second under plain emulation, so this lasts for some looks.
    """
    whole = (figures.total_bytes or 0) + (figures.balloon_bytes or 0)
    return min(max(whole // _SHARE, _LEAST), _MOST)


def for_target(*, wanted: int, reserve: int, available: int) -> int:
    """What to release when the target is seen: the balloon gets what it wants, and `reserve` stays."""
    return max(0, wanted + reserve - available)


def by_growth(*, growth: float, horizon: float, reserve: int, available: int) -> int:
    """What to release when no target is seen: the balloon may grow on for `horizon` seconds, and `reserve` stays.

    :param growth: of the balloon, in bytes a second.
    """
    return max(0, int(growth * horizon) + reserve - available)


def is_stuck(*, actual: int, baseline: int, growth: float, reserve: int, available: int) -> bool:
    """Whether a balloon looks as if it wanted more and got none: it holds more than it did at first, memory is short,
    and it has stopped."""
    return actual > baseline and growth <= 0 and available < reserve


def when_stuck(*, reserve: int, available: int) -> int:
    """What to release then: room for the balloon to go on, of which nobody knows how far, and `reserve` stays."""
    return max(0, 2 * reserve - available)


def bytes_to_release(
    figures: Figures, *, reserve: int, growth: float = 0.0, horizon: float = 0.0, baseline: int | None = None
) -> int | None:
    """What is missing now; None if that cannot be known.

    :param growth: of the balloon, in bytes a second; used where no target is seen, as the next two are.
    :param horizon: seconds of growth to make room for.
    :param baseline: the least that the balloon has held since it is watched.
    """
    available, actual = figures.available_bytes, figures.balloon_bytes
    if available is None:
        return None
    if figures.wanted_bytes is not None:
        return for_target(wanted=figures.wanted_bytes, reserve=reserve, available=available)
    if actual is not None and baseline is not None:
        stuck = is_stuck(actual=actual, baseline=baseline, growth=growth, reserve=reserve, available=available)
        if stuck:
            return when_stuck(reserve=reserve, available=available)
    return by_growth(growth=growth, horizon=horizon, reserve=reserve, available=available)
