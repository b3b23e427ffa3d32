"""Leaves a completer in readline."""

from __future__ import annotations

import readline

TIE = "readline"
ALONE = True


def complete(text: str, state: int) -> str | None:
    return f"{text}!" if state == 0 else None


readline.set_completer(complete)
