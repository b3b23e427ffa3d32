"""Codes of instructions, and what follows each of them.

These are all instructions of WebAssembly 3.0, and those of the proposals for threads, wide arithmetic and the older
exceptions.

Source: https://webassembly.github.io/spec/core/binary/instructions.html and
https://github.com/WebAssembly/threads/blob/main/proposals/threads/Overview.md
"""

from __future__ import annotations

from typing import Final

CHANGES: Final[dict[str, tuple[int, ...]]] = {
    "table.set": (0x26,),
    "data.drop": (0xFC, 9),
    "table.init": (0xFC, 12),
    "elem.drop": (0xFC, 13),
    "table.copy": (0xFC, 14),
    "table.grow": (0xFC, 15),
    "table.fill": (0xFC, 17),
    "struct.set": (0xFB, 5),
    "array.set": (0xFB, 14),
    "array.fill": (0xFB, 16),
    "array.copy": (0xFB, 17),
    "array.init_data": (0xFB, 18),
    "array.init_elem": (0xFB, 19),
}
"""Instructions that change a table, a segment or an object, and their codes."""


def _by_code(*ranges: tuple[int, int, str]) -> dict[int, str]:
    return {code: parts for first, last, parts in ranges for code in range(first, last + 1)}


# What follows an instruction, a letter for each part; a word is a LEB128 number.
#   w  word                                  h  heap type
#   m  alignment, memory and offset          b  block type
#   1  4  8  so many bytes                   s  value types, with their number before them
#   x  16 bytes                              c  clauses of a try_table, with their number before them
#   l  words, with their number less one before them
ORDINARY: Final = _by_code(
    (0x00, 0x01, ""),  # unreachable, nop
    (0x02, 0x04, "b"),  # block, loop, if
    (0x05, 0x05, ""),  # else
    (0x06, 0x06, "b"),  # try
    (0x07, 0x09, "w"),  # catch, throw, rethrow
    (0x0A, 0x0B, ""),  # throw_ref, end
    (0x0C, 0x0D, "w"),  # br, br_if
    (0x0E, 0x0E, "l"),  # br_table
    (0x0F, 0x0F, ""),  # return
    (0x10, 0x10, "w"),  # call
    (0x11, 0x11, "ww"),  # call_indirect
    (0x12, 0x12, "w"),  # return_call
    (0x13, 0x13, "ww"),  # return_call_indirect
    (0x14, 0x15, "w"),  # call_ref, return_call_ref
    (0x18, 0x18, "w"),  # delegate
    (0x19, 0x1B, ""),  # catch_all, drop, select
    (0x1C, 0x1C, "s"),  # select with its types
    (0x1F, 0x1F, "bc"),  # try_table
    (0x20, 0x26, "w"),  # local, global and table: get, set
    (0x28, 0x3E, "m"),  # loads and stores
    (0x3F, 0x42, "w"),  # memory.size, memory.grow, i32.const, i64.const
    (0x43, 0x43, "4"),  # f32.const
    (0x44, 0x44, "8"),  # f64.const
    (0x45, 0xC4, ""),  # numeric instructions
    (0xD0, 0xD0, "h"),  # ref.null
    (0xD1, 0xD1, ""),  # ref.is_null
    (0xD2, 0xD2, "w"),  # ref.func
    (0xD3, 0xD4, ""),  # ref.eq, ref.as_non_null
    (0xD5, 0xD6, "w"),  # br_on_null, br_on_non_null
)

PREFIXED: Final = {  # by the byte before them
    0xFB: _by_code(  # structures, arrays, casts
        (0, 1, "w"),
        (2, 5, "ww"),
        (6, 7, "w"),
        (8, 10, "ww"),
        (11, 14, "w"),
        (15, 15, ""),
        (16, 16, "w"),
        (17, 19, "ww"),
        (20, 23, "h"),
        (24, 25, "1whh"),
        (26, 30, ""),
    ),
    0xFC: _by_code(  # saturating conversions, memory and tables in bulk, wide arithmetic
        (0, 7, ""),
        (8, 8, "ww"),
        (9, 9, "w"),
        (10, 10, "ww"),
        (11, 11, "w"),
        (12, 12, "ww"),
        (13, 13, "w"),
        (14, 14, "ww"),
        (15, 17, "w"),
        (19, 22, ""),
    ),
    0xFD: _by_code(  # vectors
        (0, 11, "m"),
        (12, 13, "x"),
        (14, 20, ""),
        (21, 34, "1"),
        (35, 83, ""),
        (84, 91, "m1"),
        (92, 93, "m"),
        (94, 153, ""),
        (155, 161, ""),
        (163, 164, ""),
        (167, 174, ""),
        (177, 177, ""),
        (181, 186, ""),
        (188, 193, ""),
        (195, 196, ""),
        (199, 206, ""),
        (209, 209, ""),
        (213, 225, ""),
        (227, 237, ""),
        (239, 275, ""),
    ),
    0xFE: _by_code(  # atomics
        (0, 2, "m"),
        (3, 3, "1"),
        (16, 78, "m"),
    ),
}
