"""Leaves its functions in a class of the standard library, and whoever comes later wraps them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

TIE = "patched class"


def install() -> None:
    limit: Any = Fraction.limit_denominator
    exact: Any = Fraction.from_float

    def limit_denominator(self: Fraction, most: int = 10) -> tuple[str, Any]:
        return __name__, limit(self, most)

    def from_float(cls: type[Fraction], number: float) -> tuple[str, Any]:
        return __name__, exact(number)

    type.__setattr__(Fraction, "limit_denominator", limit_denominator)
    type.__setattr__(Fraction, "from_float", classmethod(from_float))


install()


def intact() -> object:
    return [Fraction(1, 3).limit_denominator()[0], Fraction.from_float(0.5)[0]]  # type: ignore[index]
