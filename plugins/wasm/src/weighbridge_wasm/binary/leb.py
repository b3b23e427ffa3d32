"""Whole numbers as WebAssembly writes them: LEB128.

Source: https://webassembly.github.io/spec/core/binary/values.html#integers
"""

from __future__ import annotations


def encode_unsigned(value: int) -> bytes:
    """A whole number from 0 up, in as few bytes as it takes.

    :raises ValueError: if it is below 0.
    """
    if value < 0:
        raise ValueError(f"{value} is below 0")
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def encode_signed(value: int) -> bytes:
    """A whole number with its sign, in as few bytes as it takes."""
    written = bytearray()
    # the last byte has to carry the sign in its bit 6
    while not -0x40 <= value < 0x40:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value & 0x7F)
    return bytes(written)


def decode_unsigned(data: bytes, position: int, end: int, bits: int) -> tuple[int, int]:
    """The number that begins at `position`, and the position behind it.

    :param end: where the bytes end that may be read.
    :param bits: how wide it may be. More bytes than these bits take are an error, as are unused bits that are set;
        zeros that lengthen the number within that are not.
    :raises ValueError: if there is no such number there.
    """
    value, shift, position = _gather(data, position, end, bits)
    if value >> bits:
        raise ValueError(f"a number of {shift} bits where {bits} are the most")
    return value, position


def decode_signed(data: bytes, position: int, end: int, bits: int) -> tuple[int, int]:
    """As :func:`decode_unsigned`, for a number with its sign."""
    value, shift, position = _gather(data, position, end, bits)
    if value >> shift - 1:
        value -= 1 << shift
    if value >> bits - 1 not in (0, -1):
        raise ValueError(f"{value} does not fit into {bits} bits")
    return value, position


def _gather(data: bytes, position: int, end: int, bits: int) -> tuple[int, int, int]:
    value = shift = 0
    while shift < bits and position < end:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, shift, position
    raise ValueError("a number that does not end" if shift < bits else f"a number of more than {bits} bits")
