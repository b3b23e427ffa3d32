"""Leaves a call in an unbounded functools.lru_cache of a shared library's."""

from __future__ import annotations

import functools
import sys
import types

TIE = "lru_cache"


class Load:
    pass


def _shared() -> types.ModuleType:
    """A library that both copies use."""
    module = sys.modules.get("shared_scales")
    if module is None:
        module = sys.modules["shared_scales"] = types.ModuleType("shared_scales")
        exec("def kind(thing):\n    return [thing]\n", module.__dict__)
        module.__dict__["kind"] = functools.lru_cache(maxsize=None)(module.__dict__["kind"])
    return module


kind = _shared().__dict__["kind"]
kind(Load)
kind(7)
first = id(kind(Load))


def intact() -> object:
    return id(kind(Load)) == first and kind.cache_info().currsize >= 2
