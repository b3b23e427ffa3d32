"""Leaves a function that C code may have the address of."""

from __future__ import annotations

import ctypes
from typing import Any

TIE = "ctypes callback"
STRANDED = True


def _weigh(load: int) -> int:
    return load + 1


weigh = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(_weigh)


def intact() -> object:
    address: Any = ctypes.cast(weigh, ctypes.c_void_p).value
    return bool(ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(address)(6) == 7)
