"""What prevents that an instance is reset in place: state that is not in its memory, nor in a global of a number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from . import sections
from .instructions import NotUnderstood, changes
from .outline import Outline
from .reader import Reader
from .sieve import sieve

_RESETTABLE: Final = frozenset({"i32", "i64", "f32", "f64"})

_OF_TABLES: Final = frozenset({"table.set", "table.copy", "table.grow", "table.fill"})
_OF_PASSIVE_ELEMENTS: Final = frozenset({"table.init", "elem.drop"})
_OF_PASSIVE_DATA: Final = frozenset({"data.drop"})
_OF_OBJECTS: Final = frozenset(
    {"struct.set", "array.set", "array.fill", "array.copy", "array.init_data", "array.init_elem"}
)


def find_obstacles(outline: Outline) -> tuple[str, ...]:
    """Why an instance of the module cannot be made pristine again, a sentence for each reason; empty if it can.

    A module that copies passive segments but drops none can be: what is copied is in the memory.
    """
    return (*_of_memories(outline), *_of_globals(outline), *_of_code(outline))


def _of_memories(outline: Outline) -> Iterator[str]:
    for number, limits in enumerate(outline.memories):
        if limits.is_shared:
            yield f"memory {number} is shared, so that others may write to it at any time"


def _of_globals(outline: Outline) -> Iterator[str]:
    imported = sum(each.kind == "global" for each in outline.imports)
    for number, each in enumerate(outline.globals):
        if not each.is_mutable:
            continue
        if number < imported:
            yield f"global {number} is mutable and belongs to others"
        elif each.type not in _RESETTABLE:
            yield f"global {number} is mutable and holds no number of up to 64 bits but {each.type}"


def _relevant(outline: Outline) -> frozenset[str]:
    """Instructions that can leave something behind. Those of passive segments do nothing where there are none."""
    names: frozenset[str] = frozenset()
    if outline.tables:
        names |= _OF_TABLES
    if any(segment.is_passive for segment in outline.elements):
        names |= _OF_PASSIVE_ELEMENTS if outline.tables else {"elem.drop"}
    if any(segment.is_passive for segment in outline.data):
        names |= _OF_PASSIVE_DATA
    if outline.types.has_objects:
        names |= _OF_OBJECTS
    return names


def _of_code(outline: Outline) -> Iterator[str]:
    relevant = _relevant(outline)
    code = outline.section(sections.CODE)
    if not relevant or code is None:
        return
    imported = sum(each.kind == "function" for each in outline.imports)
    search = sieve(relevant, len(outline.tables)).search
    told: set[str] = set()
    for number, (start, end) in enumerate(_bodies(outline.wasm, code), imported):
        if not search(outline.wasm, start, end):
            continue
        try:
            found = changes(outline.wasm, start, end) & relevant - told
        except NotUnderstood as error:
            yield f"function {number} cannot be examined: byte {error.position} of the module is not understood"
            return
        told |= found
        yield from (f"function {number} uses {name}" for name in sorted(found))


def _bodies(wasm: bytes, code: sections.Section) -> Iterator[tuple[int, int]]:
    """Where each function begins and ends."""
    reader = Reader(wasm, code.start, code.end)
    for _ in range(reader.u32("the number of functions")):
        start = reader.take(reader.u32("the size of a function"), "a function")
        yield start, reader.position
    reader.finish("the code")
