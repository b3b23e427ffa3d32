"""The application keeps an exception that came through the plugin."""

from __future__ import annotations

import sys
import traceback
from queue import SimpleQueue
from types import ModuleType
from typing import Any

TIE = "traceback"
# stands for a module of the application, which both copies of this plugin know
application: Any = sys.modules.setdefault("application", ModuleType("application"))


def fail() -> None:
    """Raise what the application catches."""
    raise ValueError("wrong")


def _catch() -> ValueError:
    try:
        fail()
    except ValueError as caught:
        return caught
    raise AssertionError


error = _catch()
application.__dict__.setdefault("inbox", SimpleQueue()).put(error)


def intact() -> object:
    """What the exception of this copy says of where it was raised."""
    return [step.name for step in traceback.extract_tb(error.__traceback__)]
