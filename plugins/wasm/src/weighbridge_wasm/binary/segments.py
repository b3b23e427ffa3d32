"""Segments: bytes that go into a memory, and references that go into a table.

Source: https://webassembly.github.io/spec/core/binary/modules.html#data-section
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from .constants import read_constant
from .reader import Reader
from .types import read_reference_type

_PASSIVE: Final = 1
_EXPLICIT: Final = 2
_EXPRESSIONS: Final = 4
_DATA_FORMS: Final = 3
_ELEMENT_FORMS: Final = 8
_FUNCTION_REFERENCES: Final = 0


@attrs.frozen
class DataSegment:
    """Bytes of a memory."""

    memory: int
    offset: int | None
    """Where they go, in bytes; None if no constant says so, and for passive ones."""
    content: memoryview
    """A view of the module, no copy."""
    is_passive: bool = False
    """Whether they wait for an instruction that copies them, and are not in the memory from the beginning."""


@attrs.frozen
class ElementSegment:
    """References of a table."""

    table: int
    offset: int | None
    """The first of their places; None if no constant says so, and for those that go into no table by themselves."""
    count: int
    is_passive: bool = False
    """Whether they wait for an instruction that copies them."""


def read_data(reader: Reader, known: Sequence[int | None]) -> list[DataSegment]:
    """The content of the data section.

    :param known: see :func:`~weighbridge_wasm.binary.constants.read_constant`.
    """
    whole = memoryview(reader.data)
    return [_read_data_segment(reader, known, whole) for _ in range(reader.u32("the number of data segments"))]


def _read_data_segment(reader: Reader, known: Sequence[int | None], whole: memoryview) -> DataSegment:
    form = reader.index(_DATA_FORMS, "data segment form")
    is_passive = form == _PASSIVE
    memory = reader.u32("the number of a memory") if form == _EXPLICIT else 0
    offset = None if is_passive else read_constant(reader, known)
    start = reader.take(reader.u32("the size of a data segment"), "a data segment")
    return DataSegment(memory, offset, whole[start : reader.position], is_passive)


def read_elements(reader: Reader, known: Sequence[int | None]) -> list[ElementSegment]:
    """The content of the element section."""
    return [_read_element_segment(reader, known) for _ in range(reader.u32("the number of element segments"))]


def _read_element_segment(reader: Reader, known: Sequence[int | None]) -> ElementSegment:
    form = reader.index(_ELEMENT_FORMS, "element segment form")
    # of the forms that are not active, the one with an explicit index only declares its references
    is_active = not form & _PASSIVE
    table = reader.u32("the number of a table") if is_active and form & _EXPLICIT else 0
    offset = read_constant(reader, known) if is_active else None
    if form & (_PASSIVE | _EXPLICIT):
        _read_kind(reader, form)
    count = reader.u32("the number of elements")
    if form & _EXPRESSIONS:
        for _ in range(count):
            read_constant(reader, known)
    else:
        reader.u32s(count, "the number of a function")
    return ElementSegment(table, offset, count, is_passive=not is_active and not form & _EXPLICIT)


def _read_kind(reader: Reader, form: int) -> None:
    if form & _EXPRESSIONS:
        read_reference_type(reader)
    elif reader.byte("a kind of elements") != _FUNCTION_REFERENCES:
        reader.fail("references to functions, 0", at=reader.position - 1)
