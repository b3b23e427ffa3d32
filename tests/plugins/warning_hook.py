"""Leaves a function in place of warnings.showwarning, which the next one wraps."""

from __future__ import annotations

import warnings
from typing import Any

TIE = "warnings hook"

shown: list[str] = []


def _wrapped(original: Any) -> Any:
    def show(*arguments: Any, **named: Any) -> None:
        shown.append(str(arguments[0]))
        if original is not vars(warnings)["_showwarning_orig"]:
            original(*arguments, **named)

    return show


show = _wrapped(warnings.showwarning)
warnings.showwarning = show


def intact() -> object:
    shown.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        warnings.warn("full", UserWarning, stacklevel=1)
    return [warnings.showwarning is show, shown]
