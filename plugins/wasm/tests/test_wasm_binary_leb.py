"""Whole numbers in LEB128: both ways, and the bounds of the specification."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge_wasm.binary.leb import decode_signed, decode_unsigned, encode_signed, encode_unsigned


@given(number=st.integers(0, (1 << 64) - 1), before=st.binary(max_size=3), behind=st.binary(max_size=3))
def test_unsigned_numbers_come_back_from_where_they_stand(number: int, before: bytes, behind: bytes) -> None:
    """What is read is what was written, and reading ends behind it."""
    written = encode_unsigned(number)
    data = before + written + behind
    assert decode_unsigned(data, len(before), len(data), 64) == (number, len(before + written))


@given(number=st.integers(-(1 << 63), (1 << 63) - 1), behind=st.binary(max_size=3))
def test_signed_numbers_come_back(number: int, behind: bytes) -> None:
    """What is read is what was written, and reading ends behind it."""
    written = encode_signed(number)
    assert decode_signed(written + behind, 0, len(written + behind), 64) == (number, len(written))


@given(number=st.integers(0, (1 << 32) - 1))
def test_numbers_are_as_short_as_they_can_be(number: int) -> None:
    """Each byte has seven bits of the number."""
    assert len(encode_unsigned(number)) == max(1, (number.bit_length() + 6) // 7)


@pytest.mark.parametrize(
    ("data", "bits", "number"),
    [
        (b"\xe5\x8e\x26", 32, 624_485),
        (b"\xff\xff\xff\xff\x0f", 32, (1 << 32) - 1),
        (b"\x83\x80\x80\x80\x00", 32, 3),
        (b"\xff" * 9 + b"\x01", 64, (1 << 64) - 1),
    ],
)
def test_unsigned_numbers_may_be_longer_than_they_need_to_be(data: bytes, bits: int, number: int) -> None:
    """Zeros at the upper end are allowed within the bytes that the bits take."""
    assert decode_unsigned(data, 0, len(data), bits) == (number, len(data))


@pytest.mark.parametrize(
    ("data", "bits", "number"),
    [
        (b"\xc0\xbb\x78", 32, -123_456),
        (b"\x7f", 33, -1),
        (b"\xff\xff\xff\xff\x7f", 32, -1),
        (b"\x80\x80\x80\x80\x78", 32, -(1 << 31)),
        (b"\xff\xff\xff\xff\x0f", 33, (1 << 32) - 1),
    ],
)
def test_signed_numbers_may_be_longer_than_they_need_to_be(data: bytes, bits: int, number: int) -> None:
    """Copies of the sign at the upper end are allowed within the bytes that the bits take."""
    assert decode_signed(data, 0, len(data), bits) == (number, len(data))


@pytest.mark.parametrize(
    ("data", "bits"),
    [
        (b"", 32),
        (b"\x80", 32),
        (b"\x83\x80\x80\x80\x80\x00", 32),
        (b"\xff\xff\xff\xff\x1f", 32),
        (b"\xff" * 9 + b"\x02", 64),
    ],
)
def test_unsigned_numbers_that_are_too_long_too_wide_or_cut_are_refused(data: bytes, bits: int) -> None:
    """More bytes than the bits take, unused bits that are set, and the end of the data are errors."""
    with pytest.raises(ValueError, match="a number"):
        decode_unsigned(data, 0, len(data), bits)


@pytest.mark.parametrize(
    ("data", "bits"),
    [
        (b"\xff", 32),
        (b"\x80\x80\x80\x80\x08", 32),
        (b"\xff\xff\xff\xff\x77", 32),
        (b"\xff\xff\xff\xff\x1f", 33),
        (b"\xff\xff\xff\xff\xff\x7f", 32),
    ],
)
def test_signed_numbers_that_are_too_long_too_wide_or_cut_are_refused(data: bytes, bits: int) -> None:
    """More bytes than the bits take, unused bits that are no sign, and the end of the data are errors."""
    with pytest.raises(ValueError, match=r"number|fit"):
        decode_signed(data, 0, len(data), bits)


def test_numbers_below_zero_are_no_unsigned_ones() -> None:
    """They would not end."""
    with pytest.raises(ValueError, match="-1 is below 0"):
        encode_unsigned(-1)


def test_nothing_is_read_beyond_the_end() -> None:
    """The bytes behind `end` are somebody else's."""
    with pytest.raises(ValueError, match="does not end"):
        decode_unsigned(b"\x80\x01", 0, 1, 32)
