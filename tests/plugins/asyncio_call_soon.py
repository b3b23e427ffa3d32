"""It asks a loop of the application's to call it."""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType
from typing import Any

TIE = "asyncio callback"
# stands for a module of the application, which both copies of this plugin know
application: Any = sys.modules.setdefault("application", ModuleType("application"))
if "loop" not in application.__dict__:
    application.loop = asyncio.new_event_loop()


def soon() -> None:
    """Do nothing."""


handle = application.loop.call_soon(soon)


def intact() -> object:
    """Whether this copy is still to be called."""
    return not handle.cancelled() and handle in application.loop._ready
