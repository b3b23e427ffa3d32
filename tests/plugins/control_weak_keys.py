"""Is a key in a dictionary of a shared library's that is weak."""

from __future__ import annotations

import sys
import types
import weakref

TIE = ()


class Load:
    pass


shared = sys.modules.setdefault("shared_scales", types.ModuleType("shared_scales"))
loads = vars(shared).setdefault("loads", weakref.WeakKeyDictionary())
loads[Load] = 7


def intact() -> object:
    return int(loads[Load])
