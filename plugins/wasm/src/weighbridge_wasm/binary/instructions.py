"""Code, instruction by instruction: which of them change what a reset of memory and globals does not restore.

A body with an instruction that is not known is not understood, and that is said, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .opcodes import CHANGES, ORDINARY, PREFIXED
from .types import HEAPS, NOT_NULLABLE, NULLABLE, NUMBERS

_NAMES: Final = {codes: name for name, codes in CHANGES.items()}
_END: Final = 0x0B


class NotUnderstood(Exception):
    """Something in a body that is not known here.

    :param position: where it is, in bytes from the beginning of the module.
    """

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


# The walk decides by these; everything that is not frequent is "other".
_PLAIN, _WORD, _ACCESS, _OTHER = range(4)
_FREQUENT: Final = {"": _PLAIN, "w": _WORD, "m": _ACCESS}
_KINDS: Final = bytes(
    _OTHER if (code,) in _NAMES else _FREQUENT.get(ORDINARY.get(code, "other"), _OTHER) for code in range(256)
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
    parts = ORDINARY.get(code)
    if code in PREFIXED:
        number, position = _number(wasm, position)
        codes = (code, number)
        parts = PREFIXED[code].get(number)
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
