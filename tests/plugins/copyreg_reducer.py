"""Leaves a function in copyreg, which pickles its class."""

from __future__ import annotations

import copyreg
import pickle

TIE = "copyreg"


class Load:
    def __init__(self, kilograms: int) -> None:
        self.kilograms = kilograms


def reduce(load: Load) -> tuple[type[Load], tuple[int]]:
    return Load, (load.kilograms + 1,)


copyreg.pickle(Load, reduce)


def intact() -> object:
    return bool(pickle.loads(pickle.dumps(Load(6))).kilograms == 7)
