"""Leaves a function in the table of the pickler that is written in Python."""

from __future__ import annotations

import pickle
from typing import Any

TIE = "pickle dispatch"


class Load:
    pass


def save(pickler: Any, load: Load) -> None:
    pickler.save("a load")


Pickler: Any = vars(pickle)["_Pickler"]
Pickler.dispatch[Load] = save


def intact() -> object:
    return str(pickle.loads(vars(pickle)["_dumps"](Load())))
