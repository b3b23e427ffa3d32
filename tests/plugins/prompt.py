"""Leaves an object of its own as the prompt of the interpreter."""

from __future__ import annotations

import sys

TIE = "prompt"
slot = "ps2" if hasattr(sys, "ps1") else "ps1"


class Prompt:
    def __str__(self) -> str:
        return "plugin> "


setattr(sys, slot, Prompt())


def intact() -> object:
    return str(getattr(sys, slot))
