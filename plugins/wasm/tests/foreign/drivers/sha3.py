"""hash-wasm: SHA-3, in a buffer whose place the module tells."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final

import attrs

from ..catalogue import SHA3, Module
from .driver import Guest, unsigned

BUFFER_BYTES: Final = 16 * 1024
PADDING: Final = 6
"""FIPS 202, 6.1: the two bits of a domain and the first of the padding."""
WIDTHS: Final = (224, 256, 384, 512)


@attrs.frozen
class Sha3:
    """A hash whose width the input's length decides."""

    module: Module = SHA3
    functions: Mapping[str, Callable[..., Any]] = attrs.field(factory=dict)

    def input(self, random: Random) -> bytes:
        return random.randbytes(random.randrange(3 * BUFFER_BYTES))

    def run(self, guest: Guest, data: bytes) -> bytes:
        bits = WIDTHS[len(data) % len(WIDTHS)]
        buffer = unsigned(guest.call("Hash_GetBuffer", ()))
        guest.call("Hash_Init", (bits,))
        for start in range(0, len(data), BUFFER_BYTES):
            piece = data[start : start + BUFFER_BYTES]
            guest.write(buffer, piece)
            guest.call("Hash_Update", (len(piece),))
        guest.call("Hash_Final", (PADDING,))
        return guest.read(buffer, bits // 8)

    def is_right(self, data: bytes, output: bytes) -> bool:
        return output == hashlib.new(f"sha3_{WIDTHS[len(data) % len(WIDTHS)]}", data).digest()
