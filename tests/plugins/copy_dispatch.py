"""Leaves functions in the tables of copy."""

from __future__ import annotations

import copy
from typing import Any

TIE = "copy dispatch"


class Load:
    pass


def copy_load(load: Load, memo: Any = None) -> str:
    return "copied"


vars(copy)["_copy_dispatch"][Load] = copy_load
vars(copy)["_deepcopy_dispatch"][Load] = copy_load


def intact() -> object:
    return [copy.copy(Load()), copy.deepcopy([Load()])] == ["copied", ["copied"]]
