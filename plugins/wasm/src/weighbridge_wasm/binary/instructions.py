"""Code, instruction by instruction: which of them change what a reset of memory and globals does not restore.

All instructions of WebAssembly 3.0 are known here with what follows them, and those of the proposals for threads, wide
arithmetic and the older exceptions. A body with any other is not understood, and that is said, never guessed.

Source: https://webassembly.github.io/spec/core/binary/instructions.html and
https://github.com/WebAssembly/threads/blob/main/proposals/threads/Overview.md
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from .types import HEAPS, NOT_NULLABLE, NULLABLE, NUMBERS

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

_NAMES: Final = {codes: name for name, codes in CHANGES.items()}


_END: Final = 0x0B
_SHORT: Final = 0x80
"""Numbers below it are one byte, if they are written as short as can be."""


class NotUnderstood(Exception):
    """Something in a body that is not known here.

    :param position: where it is, in bytes from the beginning of the module.
    """

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


# What follows an instruction, a letter for each part. A word is a LEB128 number.
#   w word   m alignment, memory and offset   1 4 8 x so many bytes (x: 16)   h heap type   v value type   b block type
#   l words with their number before them, and one more   s value types with their number   c clauses of a try_table
def _by_code(*ranges: tuple[int, int, str]) -> dict[int, str]:
    return {code: parts for first, last, parts in ranges for code in range(first, last + 1)}


_ORDINARY: Final = _by_code(
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

_PREFIXED: Final = {
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
        (94, 275, ""),
    ),
    0xFE: _by_code(  # atomics
        (0, 2, "m"),
        (3, 3, "1"),
        (16, 78, "m"),
    ),
}

# The walk decides by these; everything that is not frequent is "other".
_PLAIN, _WORD, _ACCESS, _OTHER = range(4)
_FREQUENT: Final = {"": _PLAIN, "w": _WORD, "m": _ACCESS}
_KINDS: Final = bytes(
    _OTHER if (code,) in _NAMES else _FREQUENT.get(_ORDINARY.get(code, "other"), _OTHER) for code in range(256)
)


def changes(wasm: bytes, start: int, end: int) -> set[str]:
    """The names in :data:`CHANGES` of instructions of one function.

    :param start: where its locals begin; its code follows.
    :param end: where its code ends.
    :raises NotUnderstood: at an instruction that is not known, or if the last one does not end where the body ends.
    """
    found: set[str] = set()
    last = end - 1
    try:
        position = _locals(wasm, start)
        while position < last:
            position = _walk(wasm, position, last, found)
    except IndexError:
        raise NotUnderstood(end) from None
    # a walk that was out of step would hardly stop right before the instruction that ends each body
    if position != last or wasm[last] != _END:
        raise NotUnderstood(end)
    return found


def _locals(wasm: bytes, position: int) -> int:
    count, position = _number(wasm, position)
    for _ in range(count):
        position = _value_type(wasm, _word(wasm, position))
    return position


def _walk(wasm: bytes, position: int, end: int, found: set[str]) -> int:
    """Pass over instructions as far as they are frequent ones, and then over one that is not."""
    kinds = _KINDS
    while position < end:
        kind = kinds[wasm[position]]
        position += 1
        if kind == _PLAIN:
            continue
        if kind == _ACCESS:
            # bit 6: the number of a memory follows
            if wasm[position] > 0x3F:
                position = _access(wasm, position)
                continue
            position += 1
        elif kind == _OTHER:
            return _uncommon(wasm, position - 1, found)
        while wasm[position] > 0x7F:
            position += 1
        position += 1
    return position


def _uncommon(wasm: bytes, start: int, found: set[str]) -> int:
    code = wasm[start]
    codes: tuple[int, ...] = (code,)
    position = start + 1
    parts = _ORDINARY.get(code)
    if code in _PREFIXED:
        number, position = _number(wasm, position)
        codes = (code, number)
        parts = _PREFIXED[code].get(number)
    if parts is None:
        raise NotUnderstood(start)
    if codes in _NAMES:
        found.add(_NAMES[codes])
    for part in parts:
        position = _PARTS[part](wasm, position)
    return position


def _word(wasm: bytes, position: int) -> int:
    while wasm[position] > 0x7F:
        position += 1
    return position + 1


def _number(wasm: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while (byte := wasm[position]) > 0x7F and shift < 28:
        value |= (byte & 0x7F) << shift
        shift += 7
        position += 1
    if byte > 0x7F:
        raise NotUnderstood(position)
    return value | byte << shift, position + 1


def _access(wasm: bytes, position: int) -> int:
    flags, position = _number(wasm, position)
    if flags & 0x40:
        position = _word(wasm, position)
    return _word(wasm, position)


def _heap_type(wasm: bytes, position: int) -> int:
    byte = wasm[position]
    # one byte from 0x40 to 0x7F is a number below zero: a kind, or a mark that something else follows
    if 0x40 <= byte <= 0x7F and byte not in HEAPS:
        raise NotUnderstood(position)
    return _word(wasm, position)


def _value_type(wasm: bytes, position: int) -> int:
    byte = wasm[position]
    if byte in (NULLABLE, NOT_NULLABLE):
        return _heap_type(wasm, position + 1)
    if byte not in NUMBERS and byte not in HEAPS:
        raise NotUnderstood(position)
    return position + 1


def _block_type(wasm: bytes, position: int) -> int:
    byte = wasm[position]
    if byte == 0x40:
        return position + 1
    return _value_type(wasm, position) if 0x40 < byte < 0x80 else _word(wasm, position)


def _labels(wasm: bytes, position: int) -> int:
    count, position = _number(wasm, position)
    for _ in range(count + 1):
        position = _word(wasm, position)
    return position


def _value_types(wasm: bytes, position: int) -> int:
    count, position = _number(wasm, position)
    for _ in range(count):
        position = _value_type(wasm, position)
    return position


def _clauses(wasm: bytes, position: int) -> int:
    count, position = _number(wasm, position)
    for _ in range(count):
        kind = wasm[position]
        if kind > 3:
            raise NotUnderstood(position)
        position = _word(wasm, position + 1)
        if kind < 2:  # with a tag before the label
            position = _word(wasm, position)
    return position


_PARTS: Final[dict[str, Callable[[bytes, int], int]]] = {
    "w": _word,
    "m": _access,
    "1": lambda _, position: position + 1,
    "4": lambda _, position: position + 4,
    "8": lambda _, position: position + 8,
    "x": lambda _, position: position + 16,
    "h": _heap_type,
    "b": _block_type,
    "l": _labels,
    "s": _value_types,
    "c": _clauses,
}


def sieve(names: Iterable[str], tables: int) -> re.Pattern[bytes]:
    """Finds at least every place where one of these instructions is; most of what it finds is none.

    A body without such a place needs no walk, and most have none. What is looked for is the code and, behind
    ``table.set``, the number of a table that exists; either may be written longer than it needs to be.

    :param names: of :data:`CHANGES`, at least one.
    :param tables: how many tables there are.
    """
    by_code: dict[int, list[int]] = {}
    for name in names:
        code, *numbers = CHANGES[name]
        by_code.setdefault(code, []).extend(numbers or range(min(tables, _SHORT)))
    # looking ahead takes nothing from what follows, so that places may overlap
    places = (f"\\x{code:02x}(?={_followed_by(numbers)})" for code, numbers in by_code.items())
    return re.compile("|".join(places).encode(), re.DOTALL)


def _followed_by(numbers: list[int]) -> str:
    if len(numbers) >= _SHORT:
        return ""
    short = "".join(f"\\x{number:02x}" for number in numbers)
    long = "".join(f"\\x{number | 0x80:02x}" for number in numbers)
    return rf"[{short}]|[{long}]\x80{{0,3}}\x00"
