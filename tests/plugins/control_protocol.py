"""Checks instances of a protocol, whose caches are weak."""

from __future__ import annotations

import typing

TIE = ()


@typing.runtime_checkable
class Weighed(typing.Protocol):
    def kilograms(self) -> int: ...


class Load:
    def kilograms(self) -> int:
        return 7


checked = isinstance(Load(), Weighed)


def intact() -> object:
    return [isinstance(Load(), Weighed), not isinstance(7, Weighed), isinstance(Load(), typing.Sized)] == [
        True,
        True,
        False,
    ]
