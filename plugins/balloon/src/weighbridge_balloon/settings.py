"""How the machine is to be watched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from weighbridge_hookspecs import ConfigurationError


def _senseless(name: str, value: object, advice: str) -> ConfigurationError:
    return ConfigurationError(f"{name} is {value!r}", step="configure", advice=advice)


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _bytes(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not _is_whole(value, 0):
        raise _senseless(attribute.name, value, "Give a whole number of bytes")


def _some_bytes(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not _is_whole(value, 1):
        raise _senseless(attribute.name, value, "Give a whole number of bytes above 0")


def _seconds(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < float("inf"):
        raise _senseless(attribute.name, value, "Give a number of seconds from 0 up")


def _flag(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, bool):
        raise _senseless(attribute.name, value, "Give true or false")


@attrs.frozen(kw_only=True)
class PressureSettings:
    """The plugin's settings on pressure.

    :raises ConfigurationError: if a value makes no sense; the text names it.
    """

    reserve_bytes: int | None = attrs.field(default=None, validator=_bytes)
    """What is to stay available; None: a sixteenth of the machine's memory, from 32 to 256 MiB."""
    step_bytes: int = attrs.field(default=32 * 1024 * 1024, validator=_some_bytes)
    """What is released when a source says that memory is short, and no figure says by how much."""
    poll_seconds: float = attrs.field(default=0.2, validator=_seconds)
    """How often the balloon is looked at; 0: never."""
    horizon_seconds: float = attrs.field(default=0.5, validator=_seconds)
    """How long the balloon may grow on, where its target is not to be seen."""
    notify: bool = attrs.field(default=True, validator=_flag)
    """Whether sources of pressure are listened to."""
    ask_device: bool = attrs.field(default=False, validator=_flag)
    """Whether a virtio balloon on the PCI bus is asked for its target: it takes root, and writes to the device."""


def read_settings(settings: Mapping[str, Any]) -> PressureSettings:
    """Those of the plugin's settings that are about pressure.

    :raises ConfigurationError: if a value makes no sense.
    """
    known = {field.name for field in attrs.fields(PressureSettings)}
    return PressureSettings(**{name: value for name, value in settings.items() if name in known})
