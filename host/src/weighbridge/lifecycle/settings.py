"""Whether the settings of a host make sense."""

from __future__ import annotations

from collections.abc import Iterable

from weighbridge_hookspecs import ConfigurationError

from ..pressure.settings import MemorySettings
from ..units import parse_bytes


def ceiling(by_operator: str | None, given: int | str | None) -> int | None:
    """The ceiling in bytes; None where neither the operator nor the application has set one.

    :raises ConfigurationError: if it is no size, or 0.
    """
    chosen = by_operator if given is None else given
    if chosen is None:
        return None
    problem = ""
    try:
        size = parse_bytes(chosen)
    except ValueError as error:
        problem, size = str(error), 0
    if not problem and size == 0:
        problem = "0 leaves no room for anything"
    if problem:
        raise ConfigurationError(f"the ceiling makes no sense: {problem}", step="configure")
    return size


def memory(given: MemorySettings | None) -> MemorySettings:
    """How the process is kept within bounds; by default it is not.

    :raises ConfigurationError: if it is something else.
    """
    if given is not None and not isinstance(given, MemorySettings):
        raise ConfigurationError(
            f"memory makes no sense: {given!r}",
            step="configure",
            advice="Give weighbridge.MemorySettings(enabled=True)",
        )
    return MemorySettings() if given is None else given


def choice(setting: str, given: str, legal: tuple[str, ...]) -> str:
    """One of a few words.

    :raises ConfigurationError: if it is another one.
    """
    if given not in legal:
        raise ConfigurationError(
            f"{setting} makes no sense: {given!r}", step="configure", advice=f"Take one of: {', '.join(legal)}"
        )
    return given


def limit(given: int) -> int:
    """So many faults are too many.

    :raises ConfigurationError: if it is no whole number, or less than 1.
    """
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise ConfigurationError(
            f"hook_error_limit makes no sense: {given!r}", step="configure", advice="Give a whole number from 1 up"
        )
    return given


def window(given: float) -> float:
    """Within so many seconds.

    :raises ConfigurationError: if it is no number, or not more than 0.
    """
    if not isinstance(given, int | float) or isinstance(given, bool) or not given > 0:  # nan is not
        raise ConfigurationError(
            f"hook_error_window_seconds makes no sense: {given!r}", step="configure", advice="Give more than 0"
        )
    return float(given)


def names(setting: str, given: Iterable[str]) -> tuple[str, ...]:
    """A list of names.

    :raises ConfigurationError: if it is a text, which would be a list of its letters.
    """
    if isinstance(given, str):
        raise ConfigurationError(
            f"{setting} makes no sense: {given!r} is a text", step="configure", advice=f"Give a list: [{given!r}]"
        )
    return tuple(given)


def listed(by_operator: str) -> tuple[str, ...]:
    """The names in an environment variable, which has commas between them."""
    return tuple(filter(None, map(str.strip, by_operator.split(","))))
