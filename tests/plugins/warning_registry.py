"""Leaves its category in what a module of the standard library remembers of warnings that were shown."""

from __future__ import annotations

import string
import warnings
from typing import Any

TIE = "warnings registry"


class OverloadWarning(UserWarning):
    pass


def _shown() -> dict[Any, Any]:
    """What warnings writes into a module's registry."""
    registry: dict[Any, Any] = {}
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("default")
        warnings.warn_explicit("full", OverloadWarning, "string.py", 7, "string", registry)
    return registry


registry = vars(string).setdefault("__warningregistry__", {})
registry.update(_shown())


def intact() -> object:
    return sum(key[1] is OverloadWarning for key in registry if isinstance(key, tuple))
