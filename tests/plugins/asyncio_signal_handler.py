"""It handles a signal on a loop of the application's."""

from __future__ import annotations

import asyncio
import signal
import sys
from types import ModuleType
from typing import Any

TIE = "asyncio signal handler"
# stands for a module of the application, which both copies of this plugin know
application: Any = sys.modules.setdefault("application", ModuleType("application"))
if "loop" not in application.__dict__:
    application.loop = asyncio.new_event_loop()


def handle() -> None:
    """Do nothing."""


NUMBER = next(one for one in (signal.SIGUSR1, signal.SIGUSR2) if one not in application.loop._signal_handlers)
application.loop.add_signal_handler(NUMBER, handle)


def intact() -> object:
    """Whether this copy's handler is still there."""
    return application.loop._signal_handlers[NUMBER]._callback is handle and callable(signal.getsignal(NUMBER))
