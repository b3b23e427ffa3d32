"""The application keeps an exception of a class of the plugin's: the traceback can go, the class cannot."""

from __future__ import annotations

import sys
import traceback
from queue import SimpleQueue
from types import ModuleType
from typing import Any

TIE = "traceback"
STRANDED = True
# stands for a module of the application, which both copies of this plugin know
application: Any = sys.modules.setdefault("application", ModuleType("application"))


class Overload(Exception):
    """It is raised, and kept by somebody."""


def fail() -> None:
    """Raise what the application catches."""
    raise Overload("too much")


def _catch() -> Overload:
    try:
        fail()
    except Overload as caught:
        return caught
    raise AssertionError


error = _catch()
application.__dict__.setdefault("inbox", SimpleQueue()).put(error)


def intact() -> object:
    """What the exception of this copy says of itself."""
    return [type(error) is Overload, *(step.name for step in traceback.extract_tb(error.__traceback__))]
