"""Compiled modules: which of them can go and be loaded once more, and why the others cannot.

A module with single-phase initialisation keeps its objects in static variables of its library, and Python keeps a copy
of its dictionary for as long as the process lives (https://peps.python.org/pep-0489/). One with multi-phase
initialisation may do the same. It need not if it has a state for each module, which the interpreter frees with it
(https://docs.python.org/3/howto/isolating-extensions.html), or if it runs no code at all when it is initialised, as
``markupsafe._speedups``: it is a list of functions then. Of those that run code and have no such state numpy raises at
a second initialisation, Cython hands out the first module again, and PyO3 keeps its classes.

Of a compiled module that goes the objects go. Its library stays mapped, for Python never closes one.
"""

from __future__ import annotations

import functools
import importlib.machinery
import sys
from types import ModuleType
from typing import Final

import attrs

from .references import is_module, namespace_of

_UNKNOWN: Final = "does not show on this Python how it is initialised"
_SINGLE: Final = "has single-phase initialisation"
_STATELESS: Final = "keeps what it makes at its initialisation, for it has no state of its own for each module"
_CYTHON: Final = "was made by Cython, which cannot be initialised twice"
_CYTHON_NAMES: Final = ("__pyx_capi__", "__test__")
"""Global names that Cython gives its modules:
https://cython.readthedocs.io/en/latest/src/userguide/special_methods.html and ``Cython/Compiler/ModuleNode.py``."""
_KNOWN: Final = {"sys": (False, False), "marshal": (True, False), "_thread": (True, True), "_abc": (True, True)}
"""Built-in modules of CPython 3.11 to 3.13: whether multi-phase, whether with a state."""


_CREATE: Final = 1
_EXECUTE: Final = 2
_MOST_SLOTS: Final = 64


@attrs.frozen
class _Definition:
    slots: int
    """Address of the slots; 0 for single-phase initialisation."""
    has_state: bool


def is_extension(module: object) -> bool:
    """Whether a module is compiled."""
    spec = namespace_of(module).get("__spec__") if is_module(module) else None
    loader = namespace_of(spec).get("loader")
    return issubclass(type(loader), importlib.machinery.ExtensionFileLoader)


def obstacle(module: object) -> str | None:
    """Why a module cannot be loaded a second time, in words that go on from its name; None if it can."""
    if not is_module(module):
        return None
    if _is_of_cython(namespace_of(module).get("__name__")):
        return _CYTHON
    if not is_extension(module):
        return None
    if any(name in namespace_of(module) for name in _CYTHON_NAMES):
        return _CYTHON  # whatever it says about its state: its own tables are static
    definition = _definition(module) if _is_layout_known() else None
    if definition is None:
        return _UNKNOWN
    if not definition.slots:
        return _SINGLE
    return _STATELESS if not definition.has_state and _runs_code(definition.slots) else None


def _is_of_cython(name: object) -> bool:
    """Modules without a file, in which Cython keeps what all compiled modules share."""
    return type(name) is str and (name == "cython_runtime" or name.startswith("_cython_"))


@functools.cache
def _is_layout_known() -> bool:
    """Whether built-in modules look as they should when read like this. Other builds lay the structures out anew."""
    if sys.implementation.name != "cpython" or "t" in getattr(sys, "abiflags", "") or hasattr(sys, "getobjects"):
        return False
    for name, (is_multi_phase, has_state) in _KNOWN.items():
        module = sys.modules.get(name)
        definition = _definition(module) if is_module(module) else None
        if definition is None or (definition.slots != 0, definition.has_state) != (is_multi_phase, has_state):
            return False
    return True


def _definition(module: ModuleType) -> _Definition | None:
    """What the C code of a module said about it; None for a module that was not made from a definition.

    ``PyModuleDef``: an object's head, three words for the interpreter, name, doc, ``m_size``, methods, ``m_slots``:
    https://github.com/python/cpython/blob/v3.13.0/Include/moduleobject.h
    """
    import ctypes  # only a host that loses compiled modules needs it

    get_definition = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(("PyModule_GetDef", ctypes.pythonapi))
    address = get_definition(module)
    if not address:
        return None
    words = (ctypes.c_ssize_t * 8).from_address(address + object.__basicsize__)
    return _Definition(slots=words[7], has_state=words[5] > 0)


def _runs_code(slots: int) -> bool:
    """Whether a module makes anything when it is initialised: ``Py_mod_create`` and ``Py_mod_exec`` are code.

    Pairs of a number and a pointer, a 0 at the end: https://docs.python.org/3/c-api/module.html#c.PyModuleDef_Slot
    """
    import ctypes

    pair = 2 * ctypes.sizeof(ctypes.c_void_p)
    for place in range(_MOST_SLOTS):
        number = ctypes.c_int.from_address(slots + place * pair).value
        if number in (_CREATE, _EXECUTE):
            return True
        if number == 0:
            return False
    return True
