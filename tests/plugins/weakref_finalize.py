"""It asks weakref.finalize to be called at the death of an object of the application's."""

from __future__ import annotations

import sys
import weakref
from types import ModuleType
from typing import Any

TIE = "weakref.finalize"
# stands for a module of the application, which both copies of this plugin know
application: Any = sys.modules.setdefault("application", ModuleType("application"))


def gone(word: str) -> None:
    """Do nothing."""


finalizer = weakref.finalize(application, gone, "it")
finalizer.atexit = False


def intact() -> object:
    """Whether this copy's finalizer is still alive."""
    return finalizer.alive
