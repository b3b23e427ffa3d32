"""Lists and bitmaps of the kernel."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge_numa.masks import LIMIT, format_list, parse_bitmap, parse_list

NUMBERS = st.frozensets(st.integers(0, 1100), max_size=80)


def as_bitmap(numbers: frozenset[int], words: int) -> str:
    """As the kernel prints it: words of 32 bits, the highest first."""
    bits = sum(1 << number for number in numbers)
    return ",".join(f"{bits >> 32 * word & 0xFFFFFFFF:08x}" for word in reversed(range(words)))


@given(NUMBERS)
def test_list_is_read_as_it_was_written(numbers: frozenset[int]) -> None:
    """Whatever the set, its list gives the set again, with a newline and NULs after it or without."""
    text = format_list(numbers) if numbers else ""
    assert parse_list(text) == parse_list(f"{text}\n\0\0") == numbers


@given(NUMBERS, st.integers(35, 40))
def test_bitmap_is_read_as_it_was_written(numbers: frozenset[int], words: int) -> None:
    """Whatever the set and the width of the mask."""
    text = as_bitmap(numbers, words)
    assert parse_bitmap(text) == parse_bitmap(f"{text}\n\0") == numbers


@given(st.text(max_size=60) | st.text("0123456789,-\n\0 abcx", max_size=60))
def test_any_text_is_a_set_or_none(text: str) -> None:
    """Parsing never raises, and what it gives is within bounds."""
    for numbers in (parse_list(text), parse_bitmap(text)):
        assert numbers is None or all(0 <= number < LIMIT for number in numbers)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0-3,8", {0, 1, 2, 3, 8}),
        ("0,8,250-255", {0, 8, *range(250, 256)}),
        ("", set()),
        ("\n", set()),
        ("3-1", None),
        ("0-999999999", None),
        ("65536", None),
        ("-1", None),
        ("0,,1", None),
        ("0x1", None),
        ("one", None),
    ],
)
def test_lists_by_example(text: str, numbers: set[int] | None) -> None:
    """What the kernel writes is read; damage, and ranges that would fill all memory, are not a set."""
    assert parse_list(text) == numbers


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("f", {0, 1, 2, 3}),
        ("00000001,00000000", {32}),
        ("00000000,00000000", set()),
        ("", None),
        ("0000000g", None),
        ("1,2", None),
        (",", None),
    ],
)
def test_bitmaps_by_example(text: str, numbers: set[int] | None) -> None:
    """A word after the first one has eight digits, or it cannot be told which bits they are."""
    assert parse_bitmap(text) == numbers


def test_a_list_is_written_as_the_kernel_writes_it() -> None:
    """Runs are joined; the empty set is a word, for it is for people."""
    assert format_list([8, 0, 1, 2, 3, 5, 4, 10]) == "0-5,8,10"
    assert format_list([]) == "none"
