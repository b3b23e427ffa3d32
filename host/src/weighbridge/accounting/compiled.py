"""Compiled modules: which of them can go and be loaded once more, and why the others cannot.

A module with single-phase initialisation keeps its objects in static variables of its library, and Python keeps a copy
of its dictionary for as long as the process lives (https://peps.python.org/pep-0489/). One with multi-phase
initialisation may do the same with its static variables: only a state for each module, which the interpreter frees with
the module, says that it need not (https://docs.python.org/3/howto/isolating-extensions.html). Tried with what is
installed from PyPI, all multi-phase and without such a state: numpy raises at a second initialisation, Cython hands
out the first module again, and modules of PyO3 keep their classes.
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
_STATELESS: Final = "keeps no state of its own for each module"
_CYTHON: Final = "was made by Cython, which cannot be initialised twice"
_MYPYC: Final = "was made by mypyc, which cannot be initialised twice"
_CYTHON_NAMES: Final = ("__pyx_capi__", "__test__")
"""Global names that Cython gives its modules:
https://cython.readthedocs.io/en/latest/src/userguide/special_methods.html and ``Cython/Compiler/ModuleNode.py``."""
_KNOWN: Final = {"sys": (False, False), "marshal": (True, False), "_thread": (True, True), "_abc": (True, True)}
"""Built-in modules of CPython 3.11 to 3.13: whether multi-phase, whether with a state."""


@attrs.frozen
class _Definition:
    is_multi_phase: bool
    has_state: bool


def is_extension(module: object) -> bool:
    """Whether a module is compiled."""
    spec = namespace_of(module).get("__spec__") if is_module(module) else None
    return isinstance(getattr(spec, "loader", None), importlib.machinery.ExtensionFileLoader)


def obstacle(module: object) -> str | None:
    """Why a module cannot be loaded a second time, in words that go on from its name; None if it can."""
    if not is_module(module) or not is_extension(module):
        return None
    if (maker := _maker(module)) is not None:
        return maker
    definition = _definition(module) if _is_layout_known() else None
    if definition is None:
        return _UNKNOWN
    if not definition.is_multi_phase:
        return _SINGLE
    return None if definition.has_state else _STATELESS


def _maker(module: ModuleType) -> str | None:
    """Compilers from Python promise multi-phase initialisation, and keep their own tables static all the same."""
    namespace = namespace_of(module)
    if any(name in namespace for name in _CYTHON_NAMES):
        return _CYTHON
    # the code of a whole group of modules is in one more module of that name: mypyc/codegen/emitmodule.py
    name = namespace.get("__name__")
    stem = f"{name.partition('.')[0]}__mypyc" if type(name) is str else ""
    if any(type(other) is str and other.rpartition(".")[2].endswith("__mypyc") for other in namespace):
        return _MYPYC
    return _MYPYC if stem in sys.modules or (type(name) is str and name.endswith("__mypyc")) else None


@functools.cache
def _is_layout_known() -> bool:
    """Whether built-in modules look as they should when read like this. Other builds lay the structures out anew."""
    if sys.implementation.name != "cpython" or "t" in getattr(sys, "abiflags", "") or hasattr(sys, "getobjects"):
        return False
    for name, (is_multi_phase, has_state) in _KNOWN.items():
        module = sys.modules.get(name)
        if not is_module(module) or _definition(module) != _Definition(is_multi_phase, has_state):
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
    return _Definition(is_multi_phase=words[7] != 0, has_state=words[5] > 0)
