"""Rewriting a module so that all its state can be reached from outside, and it wants no state from there.

Hidden tables, memories and mutable globals are exported; memories and tables that it imports become its own. Nothing
moves: what is imported has the first numbers, and a thing that becomes the module's own keeps its number. All other
sections stay byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from . import sections
from .facts import ModuleFacts, describe, export_names
from .imports import KINDS
from .leb import encode_unsigned
from .outline import Outline, outline
from .reader import Reader

_OWN_SECTIONS: Final = {"table": sections.TABLE, "memory": sections.MEMORY}


@attrs.frozen
class Exposed:
    """A module whose state can be reached.

    :param wasm: the module; the same object if there was nothing to change.
    :param facts: facts about it. Its segments are views of the module as it was given.
    """

    wasm: bytes = attrs.field(repr=False)
    facts: ModuleFacts


def expose(wasm: bytes) -> Exposed:
    """Export all state of a module under the names of :class:`~weighbridge_wasm.binary.facts.ModuleFacts`.

    :raises InvalidModule: as :func:`~weighbridge_wasm.binary.facts.read`.
    """
    found = outline(wasm)
    contents = _own_state(found) | _exports(found)
    return Exposed(sections.join(wasm, found.sections, contents) if contents else wasm, describe(found))


def _own_state(found: Outline) -> dict[int, bytes]:
    """New contents of the sections of imports, tables and memories."""
    kinds = found.ownable_kinds()
    owned = [each for each in found.imports if each.kind in kinds]
    if not owned:
        return {}
    kept = [found.wasm[each.start : each.end] for each in found.imports if each.kind not in kinds]
    contents = {sections.IMPORT: encode_unsigned(len(kept)) + b"".join(kept) if kept else b""}
    for kind, number in _OWN_SECTIONS.items():
        types = [found.wasm[each.type_start : each.end] for each in owned if each.kind == kind]
        if types:
            contents[number] = _extended(found, number, before=types)
    return contents


def _exports(found: Outline) -> dict[int, bytes]:
    """The new content of the section of exports."""
    added = [
        _name(name) + bytes((KINDS.index(kind),)) + encode_unsigned(index)
        for (kind, index), name in export_names(found).items()
        if name not in found.exports
    ]
    return {sections.EXPORT: _extended(found, sections.EXPORT, after=added)} if added else {}


def _extended(found: Outline, number: int, *, before: Sequence[bytes] = (), after: Sequence[bytes] = ()) -> bytes:
    """What stands in a section, with more before or after it."""
    section = found.section(number)
    count, content = 0, b""
    if section is not None:
        reader = Reader(found.wasm, section.start, section.end)
        count = reader.u32()
        content = found.wasm[reader.position : section.end]
    return encode_unsigned(count + len(before) + len(after)) + b"".join((*before, content, *after))


def _name(text: str) -> bytes:
    encoded = text.encode()
    return encode_unsigned(len(encoded)) + encoded
