"""Functions of Python whose address C code was given, by ``ctypes``."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from typing import Any

from .references import is_module, namespace_of


def callback_of(module: object) -> str | None:
    """The name under which a module keeps such a function; None if it keeps none.

    A library that was given one calls it for as long as the process lives, and nobody can ask whether it still will.
    """
    base = namespace_of(sys.modules.get("_ctypes")).get("CFuncPtr")
    if not isinstance(base, type) or not is_module(module):
        return None
    functions = ((name, value) for name, value in list(namespace_of(module).items()) if issubclass(type(value), base))
    return next((name for name, function in functions if any(True for _ in called_by(function))), None)


def called_by(function: object) -> Iterator[Any]:
    """What a C function holds that was made of one of Python: that one, and types of its arguments.

    The collector knows a thunk between the two: https://github.com/python/cpython/blob/3.11/Modules/_ctypes/ctypes.h.
    """
    for thunk in gc.get_referents(function):
        if type(thunk).__name__ == "CThunkObject":
            yield from gc.get_referents(thunk)
