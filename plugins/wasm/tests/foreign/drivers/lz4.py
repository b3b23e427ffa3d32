"""lz4-wasm: a compressor in Rust, whose exports wasm-bindgen wraps: results lie on the module's stack.

The reference is written after https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final

import attrs

from ..catalogue import LZ4, Module
from .driver import Guest, unsigned, words

RESULT_BYTES: Final = 16
HANDLE: Final = 36
"""The first number that wasm-bindgen's glue gives to an object of its side."""


def _string_new(address: int, nbytes: int) -> int:
    """What decompressing something broken makes an error from; nobody looks at it."""
    return HANDLE


@attrs.frozen
class Lz4:
    """Compresses, and decompresses what it compressed."""

    module: Module = LZ4
    functions: Mapping[str, Callable[..., Any]] = attrs.field(
        factory=lambda: {"./lz4_wasm_bg.js.__wbindgen_string_new": _string_new}
    )

    def input(self, random: Random) -> bytes:
        """What repeats here and there, near and far."""
        pieces = [random.randbytes(random.randrange(1, 40)) for _ in range(9)]
        return b"".join(random.choices(pieces, k=random.randrange(300)))

    def run(self, guest: Guest, data: bytes) -> bytes:
        compressed = self.apply(guest, "compress", data)
        back = self.apply(guest, "decompress", compressed)
        return compressed if back == data else b""

    def is_right(self, data: bytes, output: bytes) -> bool:
        return int.from_bytes(output[:4], "little") == len(data) and decompress(output[4:]) == data

    def apply(self, guest: Guest, function: str, data: bytes) -> bytes:
        """Call a function of bytes that gives bytes."""
        result = unsigned(guest.call("__wbindgen_add_to_stack_pointer", (-RESULT_BYTES,)))
        argument = unsigned(guest.call("__wbindgen_malloc", (len(data),)))
        guest.write(argument, data)
        guest.call(function, (result, argument, len(data)))
        address, nbytes, *_ = words(guest.read(result, RESULT_BYTES))
        content = guest.read(address, nbytes)
        guest.call("__wbindgen_free", (address, nbytes))
        guest.call("__wbindgen_add_to_stack_pointer", (RESULT_BYTES,))
        return content


def decompress(block: bytes) -> bytes:
    """What a block holds: runs of literals, each followed by a piece of what was there before."""
    content = bytearray()
    position = 0

    def length(nibble: int) -> int:
        nonlocal position
        while nibble >= 15:
            more = block[position]
            position += 1
            nibble += more
            if more < 255:
                break
        return nibble

    while position < len(block):
        token = block[position]
        position += 1
        literals = length(token >> 4)
        content += block[position : position + literals]
        position += literals
        if position < len(block):
            offset = int.from_bytes(block[position : position + 2], "little")
            position += 2
            for _ in range(length(token & 15) + 4):
                content.append(content[-offset])
    return bytes(content)
