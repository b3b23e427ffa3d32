"""A quick look at code: where an instruction may be."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from .opcodes import CHANGES

_SHORT: Final = 0x80
"""Numbers below it are one byte, if they are written as short as can be."""


def sieve(names: Iterable[str], tables: int) -> re.Pattern[bytes]:
    """Finds at least every place where one of these instructions is; most of what it finds is none.

    A body without such a place needs no walk, and most have none. What is looked for is the code and, behind
    ``table.set``, the number of a table that exists; either may be written longer than it needs to be. An instruction
    that is not known at all is seen by a walk alone. No proposal that wasmtime 50 runs has one that changes a table, a
    segment or an object by other codes than these.

    :param names: of :data:`CHANGES`, at least one.
    :param tables: how many tables there are.
    """
    by_code: dict[int, list[int]] = {}
    for name in names:
        code, *numbers = CHANGES[name]
        by_code.setdefault(code, []).extend(numbers or range(min(tables, _SHORT)))
    # looking ahead takes nothing from what follows, so that places may overlap
    places = (f"\\x{code:02x}(?={_followed_by(numbers)})" for code, numbers in by_code.items())
    return re.compile("|".join(places).encode(), re.DOTALL)


def _followed_by(numbers: list[int]) -> str:
    if len(numbers) >= _SHORT:
        return ""
    short = "".join(f"\\x{number:02x}" for number in numbers)
    long = "".join(f"\\x{number | 0x80:02x}" for number in numbers)
    return rf"[{short}]|[{long}]\x80{{0,3}}\x00"
