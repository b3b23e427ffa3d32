"""Leaves an object in sys.modules under a name of its own making, as six.moves does."""

from __future__ import annotations

import sys
from typing import Any, cast

TIE = "sys.modules alias"


class Moves:
    place = __name__

    def __repr__(self) -> str:
        return f"moved from {self.place}"


def use() -> None:
    sys.modules[f"moves_of_{__name__}"] = cast(Any, Moves())


def intact() -> object:
    return repr(sys.modules[f"moves_of_{__name__}"])
