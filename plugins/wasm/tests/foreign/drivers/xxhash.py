"""xxhash-wasm: both hashes of a memory that the caller lays out.

The reference is written after https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Final

import attrs

from ..catalogue import XXHASH, Module
from .driver import Guest


@attrs.frozen
class Xxhash:
    """Both hashes at once, and both by pieces, since those keep a state in memory."""

    module: Module = XXHASH
    functions: Mapping[str, Callable[..., Any]] = attrs.field(factory=dict)

    def input(self, random: Random) -> bytes:
        return random.randbytes(random.randrange(2_000))

    def run(self, guest: Guest, data: bytes) -> bytes:
        seed = len(data)
        guest.write(0, data)
        short, long = guest.call("xxh32", (0, len(data), seed)), guest.call("xxh64", (0, len(data), seed))
        pieces = [
            self._in_pieces(guest, data, seed, functions)
            for functions in (("init32", "update32", "digest32"), ("init64", "update64", "digest64"))
        ]
        return b"".join(
            _bytes(value, nbytes) for value, nbytes in zip((short, long, *pieces), (4, 8, 4, 8), strict=True)
        )

    def is_right(self, data: bytes, output: bytes) -> bool:
        expected = _bytes(xxh32(data, len(data)), 4) + _bytes(xxh64(data, len(data)), 8)
        return output == expected * 2

    def _in_pieces(self, guest: Guest, data: bytes, seed: int, functions: Sequence[str]) -> Any:
        """The hash of two halves: the state is at the beginning of the memory, what it is given behind it."""
        init, update, digest = functions
        half = len(data) // 2
        # The memory as it is at the start: the module counts on zeros.
        guest.write(0, bytes(len(data)))
        guest.call(init, (0, seed))
        for piece in (data[:half], data[half:]):
            guest.write(STATE_BYTES, piece)
            guest.call(update, (0, STATE_BYTES, len(piece)))
        return guest.call(digest, (0,))


STATE_BYTES: Final = 88
"""The bigger one of the two states."""


def _bytes(value: int, nbytes: int) -> bytes:
    return (value & (1 << 8 * nbytes) - 1).to_bytes(nbytes, "big")


@attrs.frozen
class Hash:
    """What the two hashes differ in: their width, their primes and their shifts."""

    bits: int
    primes: tuple[int, int, int, int, int]

    def lanes(self, seed: int) -> list[int]:
        one, two = self.primes[:2]
        return [self.cut(lane) for lane in (seed + one + two, seed + two, seed, seed - one)]

    def cut(self, value: int) -> int:
        return value & (1 << self.bits) - 1

    def rotate(self, value: int, by: int) -> int:
        value = self.cut(value)
        return self.cut(value << by) | value >> self.bits - by

    def numbers(self, data: bytes) -> list[int]:
        step = self.bits // 8
        return [int.from_bytes(data[start : start + step], "little") for start in range(0, len(data), step)]


SHORT: Final = Hash(32, (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F, 0x165667B1))
LONG: Final = Hash(
    64, (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
)


def xxh32(data: bytes, seed: int = 0) -> int:
    """The hash of 32 bits."""
    hashed, (one, two, three, four, five) = SHORT, SHORT.primes
    whole = len(data) // 16 * 16
    value = seed + five
    if whole:
        lanes = hashed.lanes(seed)
        for position, number in enumerate(hashed.numbers(data[:whole])):
            lanes[position % 4] = hashed.cut(hashed.rotate(lanes[position % 4] + number * two, 13) * one)
        value = sum(hashed.rotate(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True))
    value += len(data)
    words = whole + (len(data) - whole) // 4 * 4
    for number in hashed.numbers(data[whole:words]):
        value = hashed.rotate(value + number * three, 17) * four
    for byte in data[words:]:
        value = hashed.rotate(value + byte * five, 11) * one
    return _mixed(hashed, value, (15, two), (13, three), 16)


def xxh64(data: bytes, seed: int = 0) -> int:
    """The hash of 64 bits."""
    hashed, (one, two, three, four, five) = LONG, LONG.primes

    def turned(lane: int, number: int) -> int:
        return hashed.cut(hashed.rotate(lane + number * two, 31) * one)

    whole = len(data) // 32 * 32
    value = seed + five
    if whole:
        lanes = hashed.lanes(seed)
        for position, number in enumerate(hashed.numbers(data[:whole])):
            lanes[position % 4] = turned(lanes[position % 4], number)
        value = sum(hashed.rotate(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True))
        for lane in lanes:
            value = (hashed.cut(value) ^ turned(0, lane)) * one + four
    value += len(data)
    doubles = whole + (len(data) - whole) // 8 * 8
    words = doubles + (len(data) - doubles) // 4 * 4
    for number in hashed.numbers(data[whole:doubles]):
        value = hashed.rotate(hashed.cut(value) ^ turned(0, number), 27) * one + four
    for number in SHORT.numbers(data[doubles:words]):
        value = hashed.rotate(hashed.cut(value) ^ hashed.cut(number * one), 23) * two + three
    for byte in data[words:]:
        value = hashed.rotate(hashed.cut(value) ^ hashed.cut(byte * five), 11) * one
    return _mixed(hashed, value, (33, two), (29, three), 32)


def _mixed(hashed: Hash, value: int, first: tuple[int, int], second: tuple[int, int], last: int) -> int:
    for by, prime in (first, second):
        value = hashed.cut(value)
        value = (value ^ value >> by) * prime
    value = hashed.cut(value)
    return value ^ value >> last
