"""Leaves a function in the table of multiprocessing's pickler."""

from __future__ import annotations

import pickle
from multiprocessing.reduction import ForkingPickler

TIE = "pickle dispatch"


class Load:
    pass


def reduce(load: Load) -> tuple[type[str], tuple[str]]:
    return str, ("a load",)


ForkingPickler.register(Load, reduce)


def intact() -> object:
    return str(pickle.loads(ForkingPickler.dumps(Load())))
