"""Figures in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge_wasm.words import counted, in_bytes, in_time


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (None, "unknown"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024 * 1024 - 1, "1.0 MiB"),
        (123 * 1024**2, "123.0 MiB"),
        (4 * 1024**3, "4.0 GiB"),
        (5000 * 1024**4, "5000.0 TiB"),
    ],
)
def test_bytes_are_said_in_their_unit(nbytes: int | None, text: str) -> None:
    """Units change where four digits would be needed; what is unknown is said to be."""
    assert in_bytes(nbytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ns"),
        (123e-9, "123 ns"),
        (1.5e-6, "1.5 µs"),
        (0.0123, "12.3 ms"),
        (2.0, "2 s"),
        (3600.4, "3600 s"),
        (999.7e-6, "1 ms"),
        (999.4e-6, "999 µs"),
        (999.7, "1000 s"),
    ],
)
def test_times_have_three_digits_that_count(seconds: float, text: str) -> None:
    """From nanoseconds to hours."""
    assert in_time(seconds) == text


@given(st.floats(0, 1e9))
def test_no_time_is_said_with_an_exponent(seconds: float) -> None:
    """A person reads plain numbers."""
    number, unit = in_time(seconds).split()
    assert unit in ("s", "ms", "µs", "ns")
    assert seconds < 1e-12 or "e" not in number


@given(st.integers(9990, 10010), st.integers(-9, 2))
def test_no_time_near_a_unit_is_said_with_an_exponent(digits: int, power: int) -> None:
    """What is rounded up to the next unit is said in that."""
    assert "e" not in in_time(digits * 10.0 ** (power - 3))


@pytest.mark.parametrize(("number", "text"), [(0, "0 calls"), (1, "1 call"), (12_345, "12,345 calls")])
def test_things_are_counted(number: int, text: str) -> None:
    """One is singular."""
    assert counted(number, "call") == text
