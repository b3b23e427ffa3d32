"""Leaves its function in sys.excepthook, and whoever comes later wraps it."""

from __future__ import annotations

import sys
from types import TracebackType

TIE = "sys hook"
seen: list[str] = []


def install() -> None:
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        seen.append(kind.__name__)
        previous(kind, error, trace)

    sys.excepthook = hook


install()


def intact() -> object:
    seen.clear()
    sys.excepthook(ValueError, ValueError("not a failure: a hook is tried"), None)
    return seen
