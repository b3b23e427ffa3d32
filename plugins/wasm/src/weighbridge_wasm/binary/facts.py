"""Facts about a module, for those who run it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from .imports import Export
from .obstacles import find_obstacles
from .outline import Outline, outline
from .segments import DataSegment
from .types import FunctionType, GlobalType, Limits, TableType

PREFIX: Final = "weighbridge:"
"""How the names begin under which hidden things are exported."""


@attrs.frozen
class FunctionImport:
    """A function that the module wants."""

    module: str
    name: str
    type: FunctionType


@attrs.frozen
class GlobalImport:
    """A global that the module wants."""

    module: str
    name: str
    type: str
    is_mutable: bool


@attrs.frozen
class OtherImport:
    """A table that cannot be the module's own, or a tag of exceptions."""

    module: str
    name: str
    kind: str


@attrs.frozen
class Memory:
    """A linear memory, the module's own or imported."""

    minimum_pages: int
    maximum_pages: int | None
    is_shared: bool
    is_64: bool
    export: str
    """The name under which it is exported, if not by the module itself then after ``expose``."""
    page_bytes: int
    """65,536, but for modules that ask for other pages."""


@attrs.frozen
class Table:
    """A table of references, the module's own or imported."""

    minimum: int
    maximum: int | None
    export: str
    """As that of a memory."""
    type: str


@attrs.frozen
class Global:
    """A global, the module's own or imported."""

    type: str
    is_mutable: bool
    export: str | None
    """As that of a memory; None if it is not mutable and the module does not export it."""


@attrs.frozen
class ModuleFacts:
    """What a module has and wants. What is imported comes first, as it does in numbers of the code."""

    function_imports: tuple[FunctionImport, ...]
    global_imports: tuple[GlobalImport, ...]
    other_imports: tuple[OtherImport, ...]
    function_exports: Mapping[str, FunctionType]
    memories: tuple[Memory, ...]
    tables: tuple[Table, ...]
    globals: tuple[Global, ...]
    segments: tuple[DataSegment, ...]
    """Data, in the order in which it is written to the memories."""
    has_start: bool
    """Whether a function of the module runs when an instance is made."""
    custom: Mapping[str, bytes]
    """Contents of custom sections that are for us, by their names."""
    obstacles: tuple[str, ...]
    """Why an instance cannot be reset in place, a sentence for each reason; empty if it can."""

    @property
    def describes_memory(self) -> bool:
        """Whether the memories of a new instance are zeros and `segments`, and nothing else is in them."""
        return not self.has_start and all(each.is_passive or each.offset is not None for each in self.segments)


def read(wasm: bytes) -> ModuleFacts:
    """The facts about a module.

    :raises InvalidModule: if it is none, or has something that is not known; it names the offset in bytes, what should
        have been there and what was. Not everything is checked: the engine does that.
    """
    return describe(outline(wasm))


def describe(found: Outline) -> ModuleFacts:
    """The facts about a module that was read."""
    names = export_names(found)
    owned = found.ownable_kinds()
    return ModuleFacts(
        function_imports=_function_imports(found),
        global_imports=tuple(
            GlobalImport(each.module, each.name, each.type.type, each.type.is_mutable)
            for each in found.imports
            if isinstance(each.type, GlobalType)
        ),
        other_imports=tuple(
            OtherImport(each.module, each.name, each.kind)
            for each in found.imports
            if each.kind in ("table", "tag") and each.kind not in owned
        ),
        function_exports={
            name: found.functions[export.index] for name, export in found.exports.items() if export.kind == "function"
        },
        memories=tuple(_memory(limits, names["memory", number]) for number, limits in enumerate(found.memories)),
        tables=tuple(_table(each, names["table", number]) for number, each in enumerate(found.tables)),
        globals=tuple(
            Global(each.type, each.is_mutable, names.get(("global", number)))
            for number, each in enumerate(found.globals)
        ),
        segments=tuple(found.data),
        has_start=found.start is not None,
        custom=found.custom,
        obstacles=find_obstacles(found),
    )


def _function_imports(found: Outline) -> tuple[FunctionImport, ...]:
    wanted = [each for each in found.imports if each.kind == "function"]
    # imported functions are the first ones
    return tuple(
        FunctionImport(each.module, each.name, type_) for each, type_ in zip(wanted, found.functions, strict=False)
    )


def _memory(limits: Limits, export: str) -> Memory:
    return Memory(limits.minimum, limits.maximum, limits.is_shared, limits.is_64, export, limits.page_bytes)


def _table(table: TableType, export: str) -> Table:
    return Table(table.limits.minimum, table.limits.maximum, export, table.type)


def export_names(found: Outline) -> dict[tuple[str, int], str]:
    """Names of tables, memories and globals by kind and number: the module's own, else one that is free."""
    names = {(export.kind, export.index): name for name, export in reversed(found.exports.items())}
    for kind, index in _state(found):
        if (kind, index) not in names:
            names[kind, index] = _free_name(f"{PREFIX}{kind}:{index}", found.exports)
    return names


def _state(found: Outline) -> Iterable[tuple[str, int]]:
    """Everything that can change."""
    yield from (("memory", number) for number in range(len(found.memories)))
    yield from (("table", number) for number in range(len(found.tables)))
    yield from (("global", number) for number, each in enumerate(found.globals) if each.is_mutable)


def _free_name(name: str, taken: Mapping[str, Export]) -> str:
    """A module may have given our name to something else, by mistake or in order to mislead."""
    while name in taken:
        name += "'"
    return name
