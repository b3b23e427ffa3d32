"""It sets a context variable of the application's to an object of its own."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from types import ModuleType
from typing import Any

TIE = "context variable"
# stands for a module of the application, which both copies of this plugin know
application: Any = sys.modules.setdefault("application", ModuleType("application"))
variable: ContextVar[object] = ContextVar(__name__, default=None)
application.__dict__.setdefault("variables", []).append(variable)


class Request:
    """What is set."""


def use() -> None:
    """Set it, in the context of the thread that unloads."""
    variable.set(Request())


def intact() -> object:
    """Whether this copy's object is still there."""
    return type(variable.get()) is Request
