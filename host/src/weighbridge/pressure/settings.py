"""How a process is to be kept within bounds."""

from __future__ import annotations

import attrs
from weighbridge_hookspecs import ConfigurationError

from ..leases.checks import whole_number
from ..units import MIB


def _from_1(instance: object, attribute: attrs.Attribute[int], value: int) -> None:
    whole_number(attribute.name, value, least=1, step="configure")


def _from_0(instance: object, attribute: attrs.Attribute[int], value: int) -> None:
    whole_number(attribute.name, value, least=0, step="configure")


def _share(instance: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not _is_number(value) or not 0 < value <= 1:
        raise _senseless(attribute.name, value, "Give a share of the ceiling, above 0 and at most 1")


def _seconds(instance: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not _is_number(value) or not 0 < value < float("inf"):
        raise _senseless(attribute.name, value, "Give a number of seconds above 0")


def _flag(instance: object, attribute: attrs.Attribute[bool], value: bool) -> None:
    if not isinstance(value, bool):
        raise _senseless(attribute.name, value, "Give True or False")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _senseless(name: str, value: object, advice: str) -> ConfigurationError:
    return ConfigurationError(f"{name} is {value!r}", step="configure", advice=advice)


@attrs.frozen(kw_only=True)
class MemorySettings:
    """Whether a host keeps its process under a ceiling, and how.

    Unless `enabled` there is no thread and no limit, and what plugins rent is allocated plainly. With it, glibc is told
    to use one arena from then on (:func:`~weighbridge.pressure.allocator.keep_one_arena`), unless the operator has set
    ``MALLOC_ARENA_MAX``: what threads free could not be handed back otherwise.

    :raises ConfigurationError: if a value makes no sense; the text names it.
    """

    ceiling_bytes: int = attrs.field(default=128 * MIB, validator=_from_1)
    """What the process may occupy, unless the host is given a ceiling or ``WEIGHBRIDGE_CEILING`` says another."""
    pool_max_array_bytes: int = attrs.field(default=MIB, validator=_from_0)
    """The longest buffer that is kept to be rented again; 0 keeps none."""
    pressure_threshold: float = attrs.field(default=0.85, validator=_share)
    """The share of the ceiling above which the host makes room."""
    check_seconds: float = attrs.field(default=10.0, validator=_seconds)
    """How often it looks."""
    enabled: bool = attrs.field(default=False, validator=_flag)
    follow_limits: bool = attrs.field(default=True, validator=_flag)
    """Whether a lower limit that the system sets, such as a container's, takes the place of the ceiling."""
