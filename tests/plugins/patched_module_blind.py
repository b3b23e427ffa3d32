"""Replaces functions of the standard library at its import, as typing_extensions does, and keeps no original."""

from __future__ import annotations

import textwrap

TIE = "patched module"
slot = "shorten" if textwrap.shorten.__module__ == "textwrap" else "fill"


def change(text: str, width: int = 70) -> str:
    return __name__


setattr(textwrap, slot, change)


def intact() -> object:
    return getattr(textwrap, slot)("a b", 70)
