"""What a module wants from outside, and what it gives.

Source: https://webassembly.github.io/spec/core/binary/modules.html#import-section
"""

from __future__ import annotations

from typing import Final, TypeAlias

import attrs

from .reader import Reader
from .types import GlobalType, Limits, TableType, read_global_type, read_memory_type, read_table_type

KINDS: Final = ("function", "table", "memory", "global", "tag")
"""Kinds of what is imported and exported, by their numbers."""

Description: TypeAlias = int | TableType | Limits | GlobalType
"""The type of what is imported; of a function and of a tag, the number of its type."""


@attrs.frozen
class Import:
    """Something from outside, and where that is written, in bytes from the beginning of the module."""

    module: str
    name: str
    kind: str
    type: Description
    start: int
    type_start: int
    """Where the type stands: the bytes from here on would define such a thing, too."""
    end: int


@attrs.frozen
class Export:
    """Something that is given, by its name: its kind, and its number among its like."""

    kind: str
    index: int


def read_imports(reader: Reader) -> list[Import]:
    """The content of the import section."""
    return [_read_import(reader) for _ in range(reader.u32("the number of imports"))]


def _read_import(reader: Reader) -> Import:
    start = reader.position
    module = reader.name("the name of a module")
    name = reader.name("the name of an import")
    kind = _read_kind(reader)
    type_start = reader.position
    return Import(module, name, kind, _read_type(reader, kind), start, type_start, reader.position)


def _read_type(reader: Reader, kind: str) -> Description:
    if kind == "function":
        return reader.u32("the type of a function")
    if kind == "table":
        return read_table_type(reader)
    if kind == "memory":
        return read_memory_type(reader)
    if kind == "global":
        return read_global_type(reader)
    return read_tag(reader)


def read_tag(reader: Reader) -> int:
    """The number of the type of an exception."""
    if reader.byte("a tag") != 0:
        reader.fail("a tag of exceptions, 0", at=reader.position - 1)
    return reader.u32("the type of a tag")


def read_exports(reader: Reader) -> dict[str, Export]:
    """The content of the export section, by names, each of which is there once."""
    exports: dict[str, Export] = {}
    for _ in range(reader.u32("the number of exports")):
        start = reader.position
        name = reader.name("the name of an export")
        if name in exports:
            reader.fail("a name that is not exported yet", at=start, had=repr(name))
        exports[name] = Export(_read_kind(reader), reader.u32("the number of what is exported"))
    return exports


def _read_kind(reader: Reader) -> str:
    number = reader.byte("a kind of imports or exports")
    if number >= len(KINDS):
        reader.fail(f"a kind below {len(KINDS)}", at=reader.position - 1)
    return KINDS[number]
