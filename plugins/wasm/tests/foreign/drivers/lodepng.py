"""@cwasm/lodepng: a decoder of PNG, with malloc and free of a libc."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final

import attrs

from ..catalogue import LODEPNG, Module
from .driver import Guest, unsigned, words

PIXEL_BYTES: Final = 4


@attrs.frozen
class Lodepng:
    """Decodes a picture that Python has encoded; the input is its pixels, one row."""

    module: Module = LODEPNG
    functions: Mapping[str, Callable[..., Any]] = attrs.field(factory=dict)

    def input(self, random: Random) -> bytes:
        return random.randbytes(random.randrange(1, 1_500) * PIXEL_BYTES)

    def run(self, guest: Guest, data: bytes) -> bytes:
        guest.call("_initialize", ())
        picture = encode(data)
        source = self._allocate(guest, len(picture))
        results = self._allocate(guest, 12)
        guest.write(source, picture)
        error = guest.call("lodepng_decode32", (results, results + 4, results + 8, source, len(picture)))
        address, width, height = words(guest.read(results, 12))
        content = guest.read(address, width * height * PIXEL_BYTES) if error == 0 else b""
        for pointer in (source, results, address):
            guest.call("free", (pointer,))
        return content

    def is_right(self, data: bytes, output: bytes) -> bool:
        return output == data

    def _allocate(self, guest: Guest, nbytes: int) -> int:
        return unsigned(guest.call("malloc", (nbytes,)))


def encode(pixels: bytes) -> bytes:
    """A PNG of one row, each pixel red, green, blue and opacity (https://www.w3.org/TR/png-3/)."""
    header = struct.pack(">IIBBBBB", len(pixels) // PIXEL_BYTES, 1, 8, 6, 0, 0, 0)
    unfiltered = b"\0"
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(unfiltered + pixels))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
