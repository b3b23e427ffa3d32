"""Leaves a function in place of warnings.formatwarning."""

from __future__ import annotations

import warnings

TIE = "warnings hook"
ALONE = True


def _form(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    return f"{message}!"


warnings.formatwarning = _form
