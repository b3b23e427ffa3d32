"""Settings of services, looked at before anything is built with them."""

from __future__ import annotations

import threading

from weighbridge_hookspecs import ConfigurationError


def whole_number(name: str, value: object, *, least: int, step: str = "lease") -> int:
    """Give `value` back if it is a whole number from `least` up.

    :raises ConfigurationError: if it is not; the text names the setting.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{name} is {value!r}", step=step, advice=f"Give a whole number from {least} up")
    return value


def seconds_from_0(name: str, value: object) -> float:
    """Give `value` back, or what a lock can wait at most where that is less.

    :raises ConfigurationError: if it is no number from 0 up; the text names the setting.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ConfigurationError(f"{name} is {value!r}", step="lease", advice="Give a number of seconds from 0 up")
    return min(value, threading.TIMEOUT_MAX)


def can_be_called(name: str, value: object) -> None:
    """Nothing, if `value` can be called.

    :raises ConfigurationError: if it cannot; the text names the setting, and not what it holds.
    """
    if not callable(value):
        raise ConfigurationError(f"{name} is a {type(value).__name__}", step="lease", advice="Give a function")
