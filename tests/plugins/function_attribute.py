"""Hangs something on functions of the standard library's."""

from __future__ import annotations

import textwrap
from typing import Any

TIE = "function attribute"


class Load:
    pass


def listen() -> str:
    return __name__


setattr(textwrap.dedent, f"{__name__}_loads", {"loads": (Load,), "strict": True})
setattr(textwrap.dedent, f"{__name__}_listens", listen)
shared: dict[str, Any] = vars(textwrap.indent).setdefault("listeners", {})
shared[__name__] = listen


def intact() -> object:
    attributes = vars(textwrap.dedent)
    return [
        attributes[f"{__name__}_loads"] == {"loads": (Load,), "strict": True},
        attributes[f"{__name__}_listens"](),
        shared[__name__](),
        vars(textwrap.indent)["listeners"] is shared,
    ]
