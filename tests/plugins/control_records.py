"""Defines a dataclass, an enumeration, a named tuple and a typed dictionary."""

from __future__ import annotations

import dataclasses
import enum
import typing

TIE = ()


@dataclasses.dataclass(order=True)
class Load:
    kilograms: int
    name: str = "load"


class Kind(enum.Enum):
    LIGHT = 1
    HEAVY = 2


class Lorry(typing.NamedTuple):
    load: int


class Ticket(typing.TypedDict):
    load: int


def intact() -> object:
    return [Load(7) < Load(8), Kind(2).name, Lorry(7).load, dataclasses.asdict(Load(7)), Ticket(load=7)]
