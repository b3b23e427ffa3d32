"""Replaces a method that another module still refers to, when it is used and not when it is loaded."""

from __future__ import annotations

import keyword
import textwrap

TIE = "patched module"
slot = "dedent" if textwrap.dedent.__module__ == "textwrap" else "indent"
vars(keyword).setdefault("__elsewhere__", []).append(getattr(textwrap, slot))


def change(text: str, *more: str) -> str:
    return __name__


def use() -> None:
    setattr(textwrap, slot, change)


def intact() -> object:
    return getattr(textwrap, slot)("  a", "b")
