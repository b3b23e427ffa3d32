"""Sizes in words: what is taken, what is refused and in which words, and that both directions agree."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge.units import GIB, KIB, MIB, format_at_least, format_bytes, parse_bytes

ACCEPTED = "give a whole number of bytes, or a number with B, KiB, MiB, GiB, kB, MB or GB, such as '64 MiB'"
UNITS = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "kB": 1000, "MB": 1000**2, "GB": 1000**3}


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64 MiB", 64 * MIB),
        ("1.5GiB", 3 * GIB // 2),
        ("4096", 4096),
        (4096, 4096),
        (0, 0),
        ("0", 0),
        ("-0", 0),
        ("+1 kB", 1000),
        ("  7 b  ", 7),
        ("\t2\n KIB", 2 * KIB),
        ("3 mb", 3_000_000),
        ("2 GB", 2_000_000_000),
        ("007", 7),
        ("0.5 KiB", 512),
        ("0.0001 kB", 0),
        ("1.9999 B", 1),
    ],
)
def test_sizes_are_read_with_and_without_a_unit(text: int | str, size: int) -> None:
    """Numbers, binary and decimal units in any case, blanks and fractions are understood."""
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "size",
    [
        "12 parsecs",
        "",
        " ",
        "MiB",
        "1e3",
        "1_000",
        "1,5 MiB",
        "1.",
        ".5 MiB",
        "0x10",
        "٣",  # a digit to str.isdigit and to int(), not in a configuration file
        "1²",
        "- 5",
        "1 Mi B",
        "1 MiB 2",
        "12 TiB",
        "nan",
        "inf",
        None,
        True,
        False,
        1.0,
        b"12",
        [12],
    ],
    ids=repr,
)
def test_what_is_no_size_is_refused_in_words(size: Any) -> None:
    """The error shows what was given as Python writes it, and says what would be taken."""
    with pytest.raises(ValueError, match="is not a size") as caught:
        parse_bytes(size)
    assert str(caught.value) == f"{size!r} is not a size: {ACCEPTED}"


@pytest.mark.parametrize("size", [-1, "-1", "-1 MiB", "-0.5 KiB", -(1 << 70)])
def test_a_size_below_nothing_is_refused(size: int | str) -> None:
    """A negative size is a mistake, whatever its unit."""
    with pytest.raises(ValueError, match="below 0") as caught:
        parse_bytes(size)
    assert str(caught.value) == f"{size!r} is below 0"


@given(number=st.integers(0, 1 << 70), unit=st.sampled_from(sorted(UNITS)), blank=st.sampled_from(["", " ", "\t "]))
def test_a_whole_number_with_a_unit_is_exact(number: int, unit: str, blank: str) -> None:
    """No float is on the way: any number of any unit gives exactly that many bytes."""
    assert parse_bytes(f"{number}{blank}{unit}") == number * UNITS[unit]


@given(
    whole=st.integers(0, 1 << 40),
    fraction=st.text("0123456789", min_size=1, max_size=30),
    unit=st.sampled_from(sorted(UNITS)),
)
def test_a_fraction_loses_less_than_a_byte(whole: int, fraction: str, unit: str) -> None:
    """A fraction is rounded down to whole bytes, exactly."""
    scaled = int(f"{whole}{fraction}") * UNITS[unit]
    assert parse_bytes(f"{whole}.{fraction} {unit}") == scaled // 10 ** len(fraction)


@given(st.text())
def test_any_other_text_is_a_value_error(text: str) -> None:
    """Whatever is written in a manifest, the answer is a size from 0 up or a ValueError that quotes it."""
    try:
        size = parse_bytes(text)
    except ValueError as error:
        assert repr(text) in str(error)  # noqa: PT017 - both outcomes are fine
    else:
        assert size >= 0


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "unknown"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (-1536, "-1.5 KiB"),
        (24 * MIB, "24.0 MiB"),
        (5 * GIB, "5.0 GiB"),
        (5000 * GIB, "5000.0 GiB"),
    ],
)
def test_sizes_are_written_for_people(count: int | None, text: str) -> None:
    """One digit after the point, binary units, and None is "unknown", never 0."""
    assert format_bytes(count) == text


@given(st.integers(0, 1 << 60))
def test_what_is_written_can_be_read_again(count: int) -> None:
    """Reading what was written gives the number back, to within half of the last digit; below 1 KiB exactly."""
    unit = next((unit for unit in (GIB, MIB, KIB) if count >= unit), 1)
    back = parse_bytes(format_bytes(count))
    assert abs(back - count) <= (unit / 20) + 1 + count * 2**-50
    assert count >= KIB or back == count


@given(st.integers(1, 1 << 60))
def test_a_negative_size_is_the_positive_one_with_a_sign(count: int) -> None:
    """What came back on an unload may be negative, and is written alike."""
    assert format_bytes(-count) == f"-{format_bytes(count)}"


@given(st.integers(0, 1 << 70))
def test_advice_is_never_less_than_what_is_needed(count: int) -> None:
    """Who takes the text of format_at_least at its word has enough, and less than two tenths of a unit too much."""
    unit = next((unit for unit in (GIB, MIB, KIB) if count >= unit), 1)
    back = parse_bytes(format_at_least(count))
    assert count <= back < count + unit / 5
    assert count >= KIB or back == count
