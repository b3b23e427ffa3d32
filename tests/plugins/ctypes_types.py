"""Leaves a pointer type and a function type in the caches of ctypes."""

from __future__ import annotations

import ctypes
from typing import Any

TIE = "ctypes type cache"


class Load(ctypes.Structure):
    _fields_ = (("kilograms", ctypes.c_int),)


pointer: Any = ctypes.POINTER(Load)
signature: Any = ctypes.CFUNCTYPE(ctypes.c_int, pointer)
array: Any = Load * 3


def intact() -> object:
    return ctypes.POINTER(Load) is pointer and ctypes.CFUNCTYPE(ctypes.c_int, pointer) is signature
