"""The first dictionaries of ``builtins`` and ``sys``, which the interpreter keeps so that it can end."""

from __future__ import annotations

import builtins
import functools
import gc
import sys
from typing import Any

from ..names import namespace_of


def pristine(module: Any) -> dict[str, Any] | None:
    """The copy of the dictionary of ``builtins`` or ``sys``; None for any other module, and if it is not found.

    https://github.com/python/cpython/blob/3.11/Python/import.c (``_PyImport_FixupBuiltin``), and
    https://github.com/python/cpython/blob/3.12/Python/pylifecycle.c (``interp->builtins_copy``). The lists in it are
    the ones that ``sys`` had, not copies: a finder in the first ``sys.meta_path`` is there for good, even if another
    list has taken its place.
    """
    space = namespace_of(module)
    if space is vars(builtins):
        return _copy_of("builtins", "__build_class__")
    return _copy_of("sys", "addaudithook") if space is vars(sys) else None


@functools.cache
def _copy_of(module: str, witness: str) -> dict[str, Any] | None:
    live = namespace_of(sys.modules[module])
    held = live[witness]
    copies = [
        one for one in gc.get_referrers(held) if type(one) is dict and one is not live and one.get(witness) is held
    ]
    return max((one for one in copies if one.get("__name__") == module), key=len, default=None)
