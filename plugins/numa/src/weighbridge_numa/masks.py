"""Sets of numbers as the kernel writes them: ``0-3,8`` and ``0000000f``.

Source: https://docs.kernel.org/admin-guide/cputopology.html and ``bitmap_print_to_pagebuf`` in ``lib/bitmap-str.c``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

LIMIT: Final = 1 << 16
"""Numbers from here on are taken for damage: no kernel has as many CPUs, and billions of them would take all memory."""

_PART: Final = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")
_WORDS: Final = re.compile(r"[0-9a-fA-F]{1,16}(?:,[0-9a-fA-F]{1,16})*")
_WORD_DIGITS: Final = 8


def parse_list(text: str, limit: int = LIMIT) -> frozenset[int] | None:
    """The numbers of a list such as ``0-3,8``; None if it is not one, or a number is not below `limit`.

    An empty list is the empty set: a node without CPUs has one.
    """
    numbers: set[int] = set()
    cleaned = text.strip("\0 \t\r\n")
    for part in cleaned.split(",") if cleaned else ():
        found = _PART.fullmatch(part.strip())
        if found is None:
            return None
        first = int(found[1])
        last = int(found[2] or first)
        if not first <= last < limit:
            return None
        numbers.update(range(first, last + 1))
    return frozenset(numbers)


def parse_bitmap(text: str, limit: int = LIMIT) -> frozenset[int] | None:
    """The numbers of the bits that are set in a mask such as ``00000001,0000000f``; None if it is not one.

    Words have 32 bits, the highest comes first. Kernels before lists were written have nothing else.
    """
    cleaned = text.strip("\0 \t\r\n")
    if not _WORDS.fullmatch(cleaned) or len(cleaned) > limit:
        return None
    first, *words = cleaned.split(",")
    if any(len(word) != _WORD_DIGITS for word in words):
        return None
    bits = int("".join([first, *words]), 16)
    return frozenset(_set_bits(bits)) if bits.bit_length() <= limit else None


def _set_bits(bits: int) -> Iterator[int]:
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


def format_list(numbers: Iterable[int]) -> str:
    """The numbers as the kernel would list them; ``"none"`` for the empty set."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs) or "none"
