"""Puts typing.dataclass_transform over typing.overload, which returns the same function of its own to everybody."""

from __future__ import annotations

from typing import TypeVar, dataclass_transform, overload

TIE = ["function attribute", "typing overload"]
ALONE = True  # there is one such attribute for everybody: the last one writes it
Kind = TypeVar("Kind")


def field() -> None:
    pass


@dataclass_transform(field_specifiers=(field,))
@overload
def record(cls: Kind) -> Kind: ...
@dataclass_transform(field_specifiers=(field,))
@overload
def record(cls: None = None) -> None: ...
def record(cls: object = None) -> object:
    return cls
