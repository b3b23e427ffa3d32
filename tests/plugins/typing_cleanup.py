"""Leaves the function behind that empties its own cache of generic types, as typing_extensions does."""

from __future__ import annotations

import functools
import typing

TIE = "typing cache"


@functools.lru_cache(maxsize=8)
def make(kind: type) -> object:
    return list[kind]  # type: ignore[valid-type]


typing._cleanups.append(make.cache_clear)  # type: ignore[attr-defined]


def intact() -> object:
    return make.cache_clear in typing._cleanups  # type: ignore[attr-defined]
