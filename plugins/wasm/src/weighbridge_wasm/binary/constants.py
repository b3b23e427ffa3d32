"""Constant expressions: what globals begin with, and where segments go.

Source: https://webassembly.github.io/spec/core/valid/instructions.html#constant-expressions
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import add, mul, sub
from typing import Final

from .reader import Reader
from .types import read_heap_type

_END: Final = 0x0B
_GLOBAL_GET: Final = 0x23
_I32_CONST: Final = 0x41
_I64_CONST: Final = 0x42
_SIZED: Final = {0x43: 4, 0x44: 8}
_REF_NULL: Final = 0xD0
_REF_FUNC: Final = 0xD2
_OBJECTS: Final = 0xFB
_VECTORS: Final = 0xFD
_V128_CONST: Final = 12
_V128_BYTES: Final = 16

_ARITHMETIC: Final[dict[int, tuple[int, Callable[[int, int], int]]]] = {
    0x6A: (32, add),
    0x6B: (32, sub),
    0x6C: (32, mul),
    0x7C: (64, add),
    0x7D: (64, sub),
    0x7E: (64, mul),
}
_OBJECT_NUMBERS: Final = {0: 1, 1: 1, 6: 1, 7: 1, 8: 2, 26: 0, 27: 0, 28: 0}
"""How many numbers follow struct.new and the like, which may stand in a constant expression."""


def read_constant(reader: Reader, known: Sequence[int | None]) -> int | None:
    """The value of the expression that is read next, unsigned; None if it is no whole number, or is not known.

    :param known: values of the globals so far; None for one that is not known before there is an instance.
    """
    stack: list[int | None] = []
    while (opcode := reader.byte("an instruction of a constant expression")) != _END:
        _step(reader, opcode, known, stack)
    return stack[0] if len(stack) == 1 else None


def _step(reader: Reader, opcode: int, known: Sequence[int | None], stack: list[int | None]) -> None:
    if opcode == _I32_CONST:
        stack.append(reader.signed(32) & 0xFFFF_FFFF)
    elif opcode == _I64_CONST:
        stack.append(reader.signed(64) & 0xFFFF_FFFF_FFFF_FFFF)
    elif opcode == _GLOBAL_GET:
        stack.append(known[reader.index(len(known), "global")])
    elif opcode in _ARITHMETIC:
        _calculate(reader, opcode, stack)
    else:
        _skip(reader, opcode)
        stack.append(None)


def _calculate(reader: Reader, opcode: int, stack: list[int | None]) -> None:
    if len(stack) < 2:
        reader.fail("two values before an arithmetic instruction", at=reader.position - 1)
    bits, operation = _ARITHMETIC[opcode]
    right, left = stack.pop(), stack.pop()
    stack.append(None if left is None or right is None else operation(left, right) & (1 << bits) - 1)


def _skip(reader: Reader, opcode: int) -> None:
    start = reader.position - 1
    if opcode in _SIZED:
        reader.take(_SIZED[opcode], "a number")
    elif opcode == _REF_NULL:
        read_heap_type(reader)
    elif opcode == _REF_FUNC:
        reader.u32("the number of a function")
    elif opcode == _VECTORS and reader.u32("an instruction") == _V128_CONST:
        reader.take(_V128_BYTES, "a vector")
    elif opcode == _OBJECTS and (numbers := _OBJECT_NUMBERS.get(reader.u32("an instruction"))) is not None:
        reader.u32s(numbers)
    else:
        reader.fail("an instruction of a constant expression", at=start)
