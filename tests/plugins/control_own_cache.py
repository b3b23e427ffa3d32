"""Calls functions of its own that have caches."""

from __future__ import annotations

import functools

TIE = ()


class Load:
    @functools.cached_property
    def kilograms(self) -> int:
        return 7

    @functools.lru_cache  # noqa: B019
    def weigh(self) -> int:
        return self.kilograms


@functools.cache
def weigh(load: Load) -> list[int]:
    return [load.kilograms]


@functools.singledispatch
def show(load: object) -> str:
    return "?"


@show.register(Load)
def _show(load: Load) -> str:
    return "load"


load = Load()
first = weigh(load), load.weigh()


def intact() -> object:
    return [weigh(load) is first[0], show(load), show(7)]
