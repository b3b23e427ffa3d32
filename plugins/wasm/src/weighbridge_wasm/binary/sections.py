"""The sections of a module: taking them apart, and putting them together with some of them replaced.

Source: https://webassembly.github.io/spec/core/binary/modules.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from .leb import encode_unsigned
from .reader import Reader, invalid

HEADER: Final = b"\0asm\x01\0\0\0"
_MAGIC: Final = HEADER[:4]
_COMPONENT: Final = b"\x0d\0\x01\0"

CUSTOM: Final = 0
TYPE: Final = 1
IMPORT: Final = 2
FUNCTION: Final = 3
TABLE: Final = 4
MEMORY: Final = 5
GLOBAL: Final = 6
EXPORT: Final = 7
START: Final = 8
ELEMENT: Final = 9
CODE: Final = 10
DATA: Final = 11
DATA_COUNT: Final = 12
TAG: Final = 13

_ORDER: Final = (TYPE, IMPORT, FUNCTION, TABLE, MEMORY, TAG, GLOBAL, EXPORT, START, ELEMENT, DATA_COUNT, CODE, DATA)
_RANKS: Final = {number: rank for rank, number in enumerate(_ORDER)}


@attrs.frozen
class Section:
    """One section: its number, and where it is in the module, in bytes from the beginning."""

    number: int
    header: int
    """Where its number stands."""
    start: int
    """Where its content begins."""
    end: int


def split(wasm: bytes) -> tuple[Section, ...]:
    """The sections in their order, custom ones among them.

    :raises InvalidModule: if it is no module, if a section is unknown, comes twice or too late, or is longer than the
        module.
    """
    _check_header(wasm)
    reader = Reader(wasm, len(HEADER), len(wasm))
    sections = []
    last = -1
    while reader.left:
        section = _section(reader)
        sections.append(section)
        if section.number == CUSTOM:
            continue
        rank = _RANKS.get(section.number)
        if rank is None:
            reader.fail("a section that is known", at=section.header, had=f"number {section.number}")
        if rank <= last:
            reader.fail("each section once, in order", at=section.header, had=f"section {section.number}")
        last = rank
    return tuple(sections)


def _check_header(wasm: bytes) -> None:
    if wasm.startswith(HEADER):
        return
    if wasm.startswith(_MAGIC + _COMPONENT):
        raise invalid(wasm, len(_MAGIC), "a core module, version 1", "a component")
    raise invalid(wasm, 0, "a module, which begins with 00 61 73 6d 01 00 00 00")


def _section(reader: Reader) -> Section:
    header = reader.position
    number = reader.byte()
    nbytes = reader.u32("the size of a section")
    start = reader.take(nbytes, f"section {number}")
    return Section(number, header, start, reader.position)


def join(wasm: bytes, sections: Sequence[Section], contents: Mapping[int, bytes]) -> bytes:
    """The module again, with the contents of some sections replaced; the others stay byte for byte.

    :param contents: what is to stand in the section of that number, which is added if it is not there, and left out
        if nothing is to stand there. No section may be custom.
    """
    waiting = sorted(contents, key=_RANKS.__getitem__)
    parts: list[bytes | memoryview] = [HEADER]
    whole = memoryview(wasm)
    for section in sections:
        rank = _RANKS.get(section.number, -1)
        while waiting and _RANKS[waiting[0]] < rank:
            parts.append(_encode(waiting[0], contents[waiting.pop(0)]))
        if waiting and waiting[0] == section.number:
            parts.append(_encode(section.number, contents[waiting.pop(0)]))
        else:
            parts.append(whole[section.header : section.end])
    parts += [_encode(number, contents[number]) for number in waiting]
    return b"".join(parts)


def _encode(number: int, content: bytes) -> bytes:
    return bytes((number,)) + encode_unsigned(len(content)) + content if content else b""
