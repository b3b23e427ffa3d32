"""Reads its own source with tokenize, whose cache has nothing but the patterns of Python."""

from __future__ import annotations

import tokenize

TIE = ()


def intact() -> object:
    with open(__file__, "rb") as file:
        return sum(1 for _ in tokenize.tokenize(file.readline))
