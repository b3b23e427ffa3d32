"""Leaves an implementation in a functools.singledispatch function of a shared library's."""

from __future__ import annotations

import functools
import sys
import types
from typing import Any

TIE = "singledispatch"


class Load:
    pass


def _shared() -> types.ModuleType:
    """A library that both copies use."""
    module = sys.modules.get("shared_scales")
    if module is None:
        module = sys.modules["shared_scales"] = types.ModuleType("shared_scales")
        exec("def weigh(thing):\n    return 'unknown'\n", module.__dict__)
        module.__dict__["weigh"] = functools.singledispatch(module.__dict__["weigh"])
    return module


weigh: Any = _shared().__dict__["weigh"]


def weigh_load(load: Load) -> str:
    return "a load"


weigh.register(Load, weigh_load)


def intact() -> object:
    return [weigh(Load()), weigh(0)] == ["a load", "unknown"]
