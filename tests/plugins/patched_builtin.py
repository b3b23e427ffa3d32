"""Replaces a built-in function when it is used, and adds another."""

from __future__ import annotations

import builtins
from types import BuiltinFunctionType
from typing import Any

TIE = "patched module"
spaces: dict[str, Any] = vars(builtins)
slots: list[str] = []


def change(number: int) -> str:
    return __name__


def use() -> None:
    slots.append("hex" if type(spaces["hex"]) is BuiltinFunctionType else "oct")
    spaces[slots[0]] = change
    spaces[f"added_by_{__name__}"] = change


def intact() -> object:
    return [spaces[slots[0]](5), spaces[f"added_by_{__name__}"](5)]
