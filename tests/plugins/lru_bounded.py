"""Leaves a call in a bounded functools.lru_cache of a shared library's."""

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
        exec("def kind(thing, other):\n    return thing.__name__ + other\n", module.__dict__)
        module.__dict__["kind"] = functools.lru_cache(maxsize=16)(module.__dict__["kind"])
    return module


kind = _shared().__dict__["kind"]
kind(Load, "!")


def intact() -> object:
    return str(kind(Load, "!"))
