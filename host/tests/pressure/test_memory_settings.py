"""Settings of bounded memory, and the ceiling that is in force."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from weighbridge_hookspecs import ConfigurationError

from weighbridge.limits import OutsideLimit
from weighbridge.pressure.ceiling import Ceiling
from weighbridge.pressure.settings import MemorySettings

MIB = 1 << 20


def test_defaults_are_those_of_an_edge_device_and_off() -> None:
    """Nobody gets a monitor who did not ask for one."""
    settings = MemorySettings()
    assert (settings.ceiling_bytes, settings.pool_max_array_bytes) == (128 * MIB, MIB)
    assert (settings.pressure_threshold, settings.check_seconds) == (0.85, 10)
    assert (settings.enabled, settings.follow_limits) == (False, True)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("ceiling_bytes", 0, "ceiling_bytes is 0. Give a whole number from 1 up"),
        ("ceiling_bytes", "64 MiB", "ceiling_bytes is '64 MiB'. Give a whole number from 1 up"),
        ("ceiling_bytes", 1e6, "ceiling_bytes is 1000000.0. Give a whole number from 1 up"),
        ("pool_max_array_bytes", -1, "pool_max_array_bytes is -1. Give a whole number from 0 up"),
        ("pool_max_array_bytes", True, "pool_max_array_bytes is True. Give a whole number from 0 up"),
        ("pressure_threshold", 0, "pressure_threshold is 0. Give a share of the ceiling, above 0 and at most 1"),
        ("pressure_threshold", 85, "pressure_threshold is 85. Give a share of the ceiling, above 0 and at most 1"),
        (
            "pressure_threshold",
            float("nan"),
            "pressure_threshold is nan. Give a share of the ceiling, above 0 and at m",
        ),
        ("check_seconds", 0, "check_seconds is 0. Give a number of seconds above 0"),
        ("check_seconds", float("inf"), "check_seconds is inf. Give a number of seconds above 0"),
        ("check_seconds", "10", "check_seconds is '10'. Give a number of seconds above 0"),
        ("enabled", 1, "enabled is 1. Give True or False"),
        ("follow_limits", None, "follow_limits is None. Give True or False"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(setting: str, value: Any, message: str) -> None:
    """The error says which setting, what it was, and what to give."""
    with pytest.raises(ConfigurationError) as caught:
        MemorySettings(**{setting: value})
    assert str(caught.value).startswith(message)
    assert caught.value.step == "configure"


@given(own=st.none() | st.integers(1, 1 << 40), outside=st.none() | st.integers(0, 1 << 40))
def test_the_lower_one_is_in_force(own: int | None, outside: int | None) -> None:
    """Whichever of the two is missing does not count, and a limit of 0 is one of 1."""
    limit = None if outside is None else OutsideLimit(nbytes=outside, source="memory.max")
    ceiling = Ceiling(own, lambda: limit)
    given = [one for one in (own, outside) if one is not None]
    assert ceiling.nbytes == (max(1, min(given)) if given else None)


def test_a_limit_that_changes_is_seen_at_the_next_look() -> None:
    """Raised, lowered or lifted while the process runs."""
    limits = [OutsideLimit(nbytes=50, source="memory.max"), OutsideLimit(nbytes=90, source="memory.high"), None]
    ceiling = Ceiling(80, lambda: limits.pop(0))
    assert ceiling.nbytes == 50
    assert ceiling.read() == 80
    assert ceiling.limit == OutsideLimit(nbytes=90, source="memory.high")
    assert ceiling.read() == 80
    assert ceiling.limit is None


def test_nobody_looks_who_does_not_follow() -> None:
    """Without a reader the application's own ceiling counts."""
    assert (Ceiling(80).read(), Ceiling(None).read()) == (80, None)
