"""The application keeps a weak reference with a callback of the plugin's: nothing can take that from it."""

from __future__ import annotations

import sys
import weakref
from types import ModuleType
from typing import Any

TIE = "weakref callback"
STRANDED = True
# stands for a module of the application, which both copies of this plugin know
application: Any = sys.modules.setdefault("application", ModuleType("application"))


def gone(reference: object) -> None:
    """Do nothing."""


application.__dict__.setdefault("references", []).append(weakref.ref(application, gone))


def intact() -> object:
    """Whether this copy's callback is still there."""
    return any(one.__callback__ is gone for one in application.references)
