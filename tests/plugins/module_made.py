"""Leaves a module that it made by hand, with its functions in it."""

from __future__ import annotations

import sys
from types import ModuleType

TIE = "sys.modules alias"


def weigh() -> str:
    return __name__


def use() -> None:
    module = ModuleType(f"made_by_{__name__}")
    vars(module)["weigh"] = weigh
    sys.modules[module.__name__] = module


def intact() -> object:
    return __import__(f"made_by_{__name__}").weigh()
