"""Leaves a library loaded, and a function that it may have the address of."""

from __future__ import annotations

import _ctypes
import ctypes

TIE = ("ctypes callback", "loaded library")
STRANDED = True

library = ctypes.CDLL(_ctypes.__file__)  # any library that is sure to be there


def _weigh(load: int) -> int:
    return load + 1


weigh = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(_weigh)


def intact() -> object:
    return int(weigh(6))
