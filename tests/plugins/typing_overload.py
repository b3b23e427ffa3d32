"""Leaves an overload behind."""

from __future__ import annotations

import typing

TIE = "typing overload"


@typing.overload
def weigh(load: int) -> int: ...
@typing.overload
def weigh(load: str) -> str: ...
def weigh(load: int | str) -> int | str:
    return load


def intact() -> object:
    return len(typing.get_overloads(weigh))
