"""Functions of Python whose address C code was given: which modules keep one."""

from __future__ import annotations

import ctypes
from types import ModuleType

from weighbridge.accounting.callbacks import callback_of


def test_a_module_that_made_a_function_for_c_code_keeps_it() -> None:
    """A function of a library, a type of functions and a null pointer are none, and neither is what is no module."""
    module = ModuleType("harbour")
    module.kind = ctypes.CFUNCTYPE(None)  # type: ignore[attr-defined]
    module.library = ctypes.pythonapi  # type: ignore[attr-defined]
    module.function = ctypes.pythonapi.Py_IsInitialized  # type: ignore[attr-defined]
    module.nothing = ctypes.CFUNCTYPE(None)()  # type: ignore[attr-defined]
    assert callback_of(module) is None
    module.answer = ctypes.CFUNCTYPE(None)(lambda: None)  # type: ignore[attr-defined]
    assert callback_of(module) == "answer"
    assert callback_of(module.__dict__) is None
    assert callback_of(None) is None
