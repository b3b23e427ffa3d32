"""Leaves a function of its own in the caches of typing, as typing_extensions does."""

from __future__ import annotations

import typing
from typing import Any

TIE = "typing cache"
SINCE = (3, 12)
calls: list[str] = []


def subscript(name: str) -> str:
    calls.append(name)
    return f"{__name__}[{name}]"


cached: Any = typing._tp_cache(subscript)  # type: ignore[attr-defined]


def intact() -> object:
    calls.clear()
    return [cached("a"), cached("b"), cached("a"), len(calls) < 3, subscript in typing._caches]  # type: ignore[attr-defined]
