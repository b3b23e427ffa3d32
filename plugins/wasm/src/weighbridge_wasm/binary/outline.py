"""A module read: everything but its code, with where it stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import attrs

from . import sections
from .constants import read_constant
from .imports import Export, Import, read_exports, read_imports, read_tag
from .reader import Reader
from .sections import Section, split
from .segments import DataSegment, ElementSegment, read_data, read_elements
from .types import (
    FunctionType,
    GlobalType,
    Limits,
    TableType,
    Types,
    read_global_type,
    read_memory_type,
    read_table_type,
    read_types,
)

CUSTOM_NAMES: Final = frozenset({"weighbridge"})
"""Custom sections whose content is read."""

_WITH_INITIAL_VALUE: Final = b"\x40\x00"


@attrs.define
class Outline:
    """What the sections say. What is imported comes first in each list, as it does in numbers of the code."""

    wasm: bytes
    sections: tuple[Section, ...]
    types: Types = attrs.field(factory=Types)
    imports: list[Import] = attrs.field(factory=list)
    functions: list[FunctionType] = attrs.field(factory=list)
    tables: list[TableType] = attrs.field(factory=list)
    memories: list[Limits] = attrs.field(factory=list)
    globals: list[GlobalType] = attrs.field(factory=list)
    values: list[int | None] = attrs.field(factory=list)
    """What immutable globals hold, as whole numbers; None for the others, and where it is not known."""
    tags: int = 0
    exports: dict[str, Export] = attrs.field(factory=dict)
    start: int | None = None
    """The function that runs when an instance is made."""
    elements: list[ElementSegment] = attrs.field(factory=list)
    data: list[DataSegment] = attrs.field(factory=list)
    data_count: int | None = None
    bodies: int = 0
    custom: dict[str, bytes] = attrs.field(factory=dict)

    def section(self, number: int) -> Section | None:
        """The section of that number."""
        return next((section for section in self.sections if section.number == number), None)

    def count(self, kind: str) -> int:
        """How many functions, tables, memories, globals or tags there are."""
        counts = {
            "function": len(self.functions),
            "table": len(self.tables),
            "memory": len(self.memories),
            "global": len(self.globals),
            "tag": self.tags,
        }
        return counts[kind]

    def ownable_kinds(self) -> frozenset[str]:
        """Kinds of imports that the module could have as its own, so that nobody has to provide them.

        Memories; and tables, if all of them can be empty at first: one that stays imported would have to come before
        those that do not, and all numbers have to stay.
        """
        tables = [each.type for each in self.imports if isinstance(each.type, TableType)]
        return frozenset({"memory", "table"} if all(each.is_nullable for each in tables) else {"memory"})


def outline(wasm: bytes) -> Outline:
    """Read a module.

    :raises InvalidModule: if it is none, or has something that is not known; it names the offset in bytes.
    """
    found = Outline(wasm, split(wasm))
    for section in found.sections:
        _READERS[section.number](Reader(wasm, section.start, section.end), found)
    _check_counts(found)
    return found


def _check_counts(found: Outline) -> None:
    reader = Reader(found.wasm, len(found.wasm), len(found.wasm))
    defined = len(found.functions) - sum(each.kind == "function" for each in found.imports)
    if found.bodies != defined:
        reader.fail(f"the code of {defined} functions", had=f"that of {found.bodies}")
    if found.data_count not in (None, len(found.data)):
        reader.fail(f"{found.data_count} data segments", had=str(len(found.data)))


def _function_type(reader: Reader, found: Outline, number: int) -> FunctionType:
    known = found.types.functions
    function = known[number] if number < len(known) else None
    if function is None:
        reader.fail("the number of a type of functions", had=str(number))
    return function


def _types(reader: Reader, found: Outline) -> None:
    found.types = read_types(reader)
    reader.finish("the types")


def _imports(reader: Reader, found: Outline) -> None:
    found.imports = read_imports(reader)
    reader.finish("the imports")
    for each in found.imports:
        if isinstance(each.type, TableType):
            found.tables.append(each.type)
        elif isinstance(each.type, Limits):
            found.memories.append(each.type)
        elif isinstance(each.type, GlobalType):
            found.globals.append(each.type)
            found.values.append(None)
        elif each.kind == "tag":
            _function_type(reader, found, each.type)
            found.tags += 1
        else:
            found.functions.append(_function_type(reader, found, each.type))


def _functions(reader: Reader, found: Outline) -> None:
    numbers = reader.u32s(reader.u32("the number of functions"), "the type of a function")
    found.functions += [_function_type(reader, found, number) for number in numbers]
    reader.finish("the functions")


def _tables(reader: Reader, found: Outline) -> None:
    for _ in range(reader.u32("the number of tables")):
        has_value = reader.data.startswith(_WITH_INITIAL_VALUE, reader.position, reader.end)
        if has_value:
            reader.take(len(_WITH_INITIAL_VALUE), "a table")
        found.tables.append(read_table_type(reader))
        if has_value:
            read_constant(reader, found.values)
    reader.finish("the tables")


def _memories(reader: Reader, found: Outline) -> None:
    found.memories += [read_memory_type(reader) for _ in range(reader.u32("the number of memories"))]
    reader.finish("the memories")


def _tags(reader: Reader, found: Outline) -> None:
    for _ in range(reader.u32("the number of tags")):
        _function_type(reader, found, read_tag(reader))
        found.tags += 1
    reader.finish("the tags")


def _globals(reader: Reader, found: Outline) -> None:
    for _ in range(reader.u32("the number of globals")):
        type_ = read_global_type(reader)
        value = read_constant(reader, found.values)
        found.globals.append(type_)
        found.values.append(None if type_.is_mutable else value)
    reader.finish("the globals")


def _exports(reader: Reader, found: Outline) -> None:
    found.exports = read_exports(reader)
    reader.finish("the exports")
    for name, export in found.exports.items():
        if export.index >= found.count(export.kind):
            reader.fail(f"a {export.kind} to export as {name!r}", had=f"number {export.index}")


def _start(reader: Reader, found: Outline) -> None:
    found.start = reader.index(len(found.functions), "function")
    reader.finish("the start")


def _elements(reader: Reader, found: Outline) -> None:
    found.elements = read_elements(reader, found.values)
    reader.finish("the elements")


def _data_count(reader: Reader, found: Outline) -> None:
    found.data_count = reader.u32("the number of data segments")
    reader.finish("the number of data segments")


def _code(reader: Reader, found: Outline) -> None:
    found.bodies = reader.u32("the number of functions")


def _data(reader: Reader, found: Outline) -> None:
    found.data = read_data(reader, found.values)
    reader.finish("the data")
    for segment in found.data:
        if not segment.is_passive and segment.memory >= len(found.memories):
            reader.fail("a memory for each data segment", had=f"number {segment.memory}")


def _custom(reader: Reader, found: Outline) -> None:
    start = reader.position
    name = reader.name("the name of a section")
    if name not in CUSTOM_NAMES:
        return
    if name in found.custom:
        reader.fail(f"one section {name!r}", at=start, had="a second one")
    found.custom[name] = reader.data[reader.position : reader.end]


_READERS: Final[Mapping[int, Callable[[Reader, Outline], None]]] = {
    sections.CUSTOM: _custom,
    sections.TYPE: _types,
    sections.IMPORT: _imports,
    sections.FUNCTION: _functions,
    sections.TABLE: _tables,
    sections.MEMORY: _memories,
    sections.TAG: _tags,
    sections.GLOBAL: _globals,
    sections.EXPORT: _exports,
    sections.START: _start,
    sections.ELEMENT: _elements,
    sections.DATA_COUNT: _data_count,
    sections.CODE: _code,
    sections.DATA: _data,
}
