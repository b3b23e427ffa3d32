"""Adds a function to a module of the standard library when it is used."""

from __future__ import annotations

import textwrap

TIE = "patched module"


def change(text: str) -> str:
    return __name__


def use() -> None:
    setattr(textwrap, f"to_{__name__}", change)


def intact() -> object:
    return getattr(textwrap, f"to_{__name__}")("a")
