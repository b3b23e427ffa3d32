"""Leaves a callback in an exit stack that is closed when the interpreter ends."""

from __future__ import annotations

import atexit
import contextlib
from typing import Any

TIE = "exit stack"
CUT = "all"


def clean(what: str) -> None: ...


def use() -> None:
    stack = contextlib.ExitStack()
    stack.callback(clean, "everything")
    atexit.register(stack.close)
    callbacks.append(vars(stack)["_exit_callbacks"])


callbacks: list[Any] = []


def intact() -> object:
    return [callback.__wrapped__ is clean for _, callback in callbacks[0]]
