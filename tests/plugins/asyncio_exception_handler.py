"""It sets the exception handler of a loop of the application's."""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType
from typing import Any

TIE = "asyncio hook"
# stands for a module of the application, which both copies of this plugin know
application: Any = sys.modules.setdefault("application", ModuleType("application"))
loop = application.__dict__.setdefault("loops", {}).setdefault(__name__, asyncio.new_event_loop())


def hook(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say nothing."""


loop.set_exception_handler(hook)


def intact() -> object:
    """Whether the hook of this copy is still set."""
    return loop.get_exception_handler() is hook
