"""Leaves its classes in the caches of typing's generic aliases."""

from __future__ import annotations

import typing

TIE = "lru_cache"


class Load:
    pass


Loads = typing.Dict[str, Load]  # noqa: UP006
Maybe = typing.Optional[Load]  # noqa: UP045


def intact() -> object:
    return typing.get_args(typing.Dict[str, Load])[1] is Load and typing.get_args(Maybe)[0] is Load  # noqa: UP006
