"""Leaves its function in sys.excepthook, and keeps what was there in a global variable."""

from __future__ import annotations

import sys
from types import TracebackType

TIE = "sys hook"
seen: list[str] = []
_previous = sys.__excepthook__


def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    seen.append(kind.__name__)
    _previous(kind, error, trace)


def use() -> None:
    globals()["_previous"] = sys.excepthook
    sys.excepthook = hook


def intact() -> object:
    seen.clear()
    sys.excepthook(ValueError, ValueError("not a failure: a hook is tried"), None)
    return [*seen, sys.excepthook is hook]
