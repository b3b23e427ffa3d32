"""Functions of Python whose address C code was given, by ``ctypes``."""

from __future__ import annotations

import gc
import sys

from .references import is_module, namespace_of


def callback_of(module: object) -> str | None:
    """The name under which a module keeps such a function; None if it keeps none.

    A library that was given one calls it for as long as the process lives, and nobody can ask whether it still will.
    The collector knows a thunk between such a C function and the one of Python:
    https://github.com/python/cpython/blob/3.11/Modules/_ctypes/ctypes.h
    """
    base = namespace_of(sys.modules.get("_ctypes")).get("CFuncPtr")
    if not isinstance(base, type) or not is_module(module):
        return None
    functions = ((name, value) for name, value in list(namespace_of(module).items()) if issubclass(type(value), base))
    return next((name for name, function in functions if _calls_python(function)), None)


def _calls_python(function: object) -> bool:
    return any(type(one).__name__ == "CThunkObject" for one in gc.get_referents(function))
