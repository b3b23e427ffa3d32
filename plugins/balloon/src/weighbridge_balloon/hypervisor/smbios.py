"""The firmware's tables as bytes: DMTF DSP0134, https://www.dmtf.org/standards/smbios."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

_BIOS: Final = 0
_SYSTEM: Final = 1
_BOARD: Final = 2
_END: Final = 127
# Type 0: offset of the second extension byte of the characteristics, and its bit for tables of a virtual machine.
_EXTENSION: Final = 0x13
_VIRTUAL: Final = 1 << 4
# Where the number of a string stands in each structure.
_STRINGS: Final = {
    "bios_vendor": (_BIOS, 0x04),
    "sys_vendor": (_SYSTEM, 0x04),
    "product_name": (_SYSTEM, 0x05),
    "product_version": (_SYSTEM, 0x06),
    "board_vendor": (_BOARD, 0x04),
}


class Structure(NamedTuple):
    """One structure: its formatted part, header included, and its strings."""

    kind: int
    body: bytes
    strings: tuple[str, ...]


def structures(table: bytes) -> Iterator[Structure]:
    """The structures of a table, up to the first that is cut off."""
    at = 0
    while at + 4 <= len(table):
        kind, length = table[at], table[at + 1]
        end = table.find(b"\0\0", at + length)
        if length < 4 or end < 0:
            return
        strings = table[at + length : end]
        yield Structure(kind, table[at : at + length], tuple(strings.decode("utf-8", "replace").split("\0")))
        if kind == _END:
            return
        at = end + 2


def fields(table: bytes) -> dict[str, str]:
    """The texts that are not empty, by the names of the files in ``/sys/class/dmi/id``."""
    found: dict[str, str] = {}
    for structure in structures(table):
        for name, (kind, offset) in _STRINGS.items():
            if structure.kind == kind and (text := _string(structure, offset)):
                found.setdefault(name, text)
    return found


def is_virtual(table: bytes) -> bool | None:
    """Whether the firmware says that it is a virtual machine's; None if there is no such byte."""
    for structure in structures(table):
        if structure.kind == _BIOS and len(structure.body) > _EXTENSION:
            return bool(structure.body[_EXTENSION] & _VIRTUAL)
    return None


def _string(structure: Structure, offset: int) -> str | None:
    if offset >= len(structure.body):
        return None
    number = structure.body[offset]
    return structure.strings[number - 1].strip() if 0 < number <= len(structure.strings) else None
