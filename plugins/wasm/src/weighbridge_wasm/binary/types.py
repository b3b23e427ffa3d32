"""Types: of values, functions, tables, memories and globals; and the type section.

Source: https://webassembly.github.io/spec/core/binary/types.html
"""

from __future__ import annotations

from typing import Final

import attrs

from .reader import Reader

PAGE_BYTES: Final = 65_536

NUMBERS: Final = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64", 0x7B: "v128"}
_PACKED: Final = {0x78: "i8", 0x77: "i16"}
HEAPS: Final = {
    0x75: ("nocont", "nullcontref"),
    0x74: ("noexn", "nullexnref"),
    0x73: ("nofunc", "nullfuncref"),
    0x72: ("noextern", "nullexternref"),
    0x71: ("none", "nullref"),
    0x70: ("func", "funcref"),
    0x6F: ("extern", "externref"),
    0x6E: ("any", "anyref"),
    0x6D: ("eq", "eqref"),
    0x6C: ("i31", "i31ref"),
    0x6B: ("struct", "structref"),
    0x6A: ("array", "arrayref"),
    0x69: ("exn", "exnref"),
    0x68: ("cont", "contref"),
}
"""Kinds of references: what a ``ref`` of them says, and the word for one that may be null."""

NULLABLE: Final = 0x63
NOT_NULLABLE: Final = 0x64

_FUNCTION: Final = 0x60
_STRUCT: Final = 0x5F
_ARRAY: Final = 0x5E
_CONTINUATION: Final = 0x5D
_SUBTYPE: Final = 0x50
_FINAL_SUBTYPE: Final = 0x4F
_GROUP: Final = 0x4E

_HAS_MAXIMUM: Final = 1
_IS_SHARED: Final = 2
_IS_64: Final = 4
_HAS_PAGE_SIZE: Final = 8


@attrs.frozen
class FunctionType:
    """What a function takes and gives, in the words of the text format: ``"i32"``, ``"funcref"``, ``"(ref 3)"``."""

    params: tuple[str, ...]
    results: tuple[str, ...]


@attrs.frozen
class Limits:
    """How big a memory or a table is at first, and may become; in pages or elements."""

    minimum: int
    maximum: int | None
    is_shared: bool
    is_64: bool
    page_bytes: int = PAGE_BYTES


@attrs.frozen
class TableType:
    """A table of references of one type."""

    type: str
    limits: Limits

    @property
    def is_nullable(self) -> bool:
        """Whether an element may be null. If not, a table of them has to be filled when it is made."""
        return not self.type.startswith("(ref ") or self.type.startswith("(ref null ")


@attrs.frozen
class GlobalType:
    """A variable, or a constant."""

    type: str
    is_mutable: bool


@attrs.define
class Types:
    """The types that a module defines, by their numbers."""

    functions: list[FunctionType | None] = attrs.field(factory=list)
    """None for a type that is not one of functions."""
    has_objects: bool = False
    """Whether there are structures or arrays, which a garbage collector keeps."""


def read_types(reader: Reader) -> Types:
    """The content of the type section."""
    types = Types()
    for _ in range(reader.u32("the number of types")):
        if reader.peek("a type") == _GROUP:
            reader.byte()
            for _ in range(reader.u32("the number of types of a group")):
                _read_subtype(reader, types)
        else:
            _read_subtype(reader, types)
    return types


def _read_subtype(reader: Reader, types: Types) -> None:
    if reader.peek("a type") in (_SUBTYPE, _FINAL_SUBTYPE):
        reader.byte()
        reader.u32s(reader.u32("the number of supertypes"), "a supertype")
    kind = reader.byte("a type")
    types.functions.append(read_function_type(reader) if kind == _FUNCTION else None)
    if kind == _STRUCT:
        for _ in range(reader.u32("the number of fields")):
            _read_field(reader)
    elif kind == _ARRAY:
        _read_field(reader)
    elif kind == _CONTINUATION:
        reader.signed(33, "the type of a continuation")
    elif kind != _FUNCTION:
        reader.fail("a type of functions, structures, arrays or continuations", at=reader.position - 1)
    types.has_objects |= kind in (_STRUCT, _ARRAY)


def _read_field(reader: Reader) -> None:
    if reader.peek("the type of a field") in _PACKED:
        reader.byte()
    else:
        read_value_type(reader)
    _read_mutability(reader)


def read_function_type(reader: Reader) -> FunctionType:
    """What stands behind the byte that says "function"."""
    params = read_value_types(reader)
    return FunctionType(params, read_value_types(reader))


def read_value_types(reader: Reader) -> tuple[str, ...]:
    """Types with their number before them."""
    return tuple([read_value_type(reader) for _ in range(reader.u32("the number of values"))])


def read_value_type(reader: Reader) -> str:
    """A type of numbers or references, in words."""
    number = NUMBERS.get(reader.peek("a type of values"))
    if number is None:
        return read_reference_type(reader)
    reader.byte()
    return number


def read_reference_type(reader: Reader) -> str:
    """A type of references, in words."""
    kind = reader.byte("a type of references")
    if kind in HEAPS:
        return HEAPS[kind][1]
    if kind not in (NULLABLE, NOT_NULLABLE):
        reader.fail("a type of values", at=reader.position - 1)
    word, short = read_heap_type(reader)
    if kind == NULLABLE:
        return short or f"(ref null {word})"
    return f"(ref {word})"


def read_heap_type(reader: Reader) -> tuple[str, str | None]:
    """What is referred to, and the short word for a reference to it that may be null, if there is one."""
    heap = HEAPS.get(reader.peek("what is referred to"))
    if heap is not None:
        reader.byte()
        return heap
    start = reader.position
    number = reader.signed(33, "what is referred to")
    if number < 0:
        reader.fail("what is referred to", at=start)
    return str(number), None


def read_table_type(reader: Reader) -> TableType:
    """The type of a table, as an import has it."""
    word = read_reference_type(reader)
    return TableType(word, read_limits(reader, _HAS_MAXIMUM | _IS_SHARED | _IS_64))


def read_memory_type(reader: Reader) -> Limits:
    """The type of a memory."""
    return read_limits(reader, _HAS_MAXIMUM | _IS_SHARED | _IS_64 | _HAS_PAGE_SIZE)


def read_limits(reader: Reader, allowed: int) -> Limits:
    """Limits, whose flags may be among those allowed."""
    flags = reader.byte("limits")
    if flags & ~allowed:
        reader.fail("limits", at=reader.position - 1)
    read = reader.u64 if flags & _IS_64 else reader.u32
    return Limits(
        minimum=read("the smallest size"),
        maximum=read("the biggest size") if flags & _HAS_MAXIMUM else None,
        is_shared=bool(flags & _IS_SHARED),
        is_64=bool(flags & _IS_64),
        page_bytes=_read_page_bytes(reader) if flags & _HAS_PAGE_SIZE else PAGE_BYTES,
    )


def _read_page_bytes(reader: Reader) -> int:
    start = reader.position
    power = reader.u32("the size of a page")
    if 1 << min(power, 64) > PAGE_BYTES:
        reader.fail(f"pages of at most {PAGE_BYTES} bytes", at=start)
    return 1 << power


def read_global_type(reader: Reader) -> GlobalType:
    """The type of a global."""
    word = read_value_type(reader)
    return GlobalType(word, _read_mutability(reader))


def _read_mutability(reader: Reader) -> bool:
    flag = reader.byte("a mark for what is mutable")
    if flag > 1:
        reader.fail("a mark for what is mutable, 0 or 1", at=reader.position - 1)
    return bool(flag)
