"""The application keeps a copy of a context in which the plugin set a variable."""

from __future__ import annotations

import sys
from contextvars import ContextVar, copy_context
from types import ModuleType
from typing import Any

TIE = "context variable"
# stands for a module of the application, which both copies of this plugin know
application: Any = sys.modules.setdefault("application", ModuleType("application"))
variable: ContextVar[object] = ContextVar(__name__)
context = copy_context()
application.__dict__.setdefault("contexts", []).append(context)


class Request:
    """What is set."""


context.run(variable.set, Request())


def intact() -> object:
    """Whether this copy's object is still there."""
    return type(context[variable]) is Request
