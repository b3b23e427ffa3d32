"""Leaves its function in a module of the standard library, and whoever comes later wraps it."""

from __future__ import annotations

import functools
import shlex

TIE = "patched module"


def install() -> None:
    original = shlex.quote

    @functools.wraps(original)
    def quote(text: str) -> str:
        return f"{__name__}:{original(text)}"

    vars(shlex)["quote"] = quote


install()


def intact() -> object:
    return shlex.quote("a b").partition(":")[0]
