"""It adds a callback to a future of asyncio that the application waits for."""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType
from typing import Any

TIE = "future callback"
# stands for a module of the application, which both copies of this plugin know
application: Any = sys.modules.setdefault("application", ModuleType("application"))
if "loop" not in application.__dict__:
    application.loop = asyncio.new_event_loop()
    application.future = application.loop.create_future()


def done(future: asyncio.Future[None]) -> None:
    """Do nothing."""


application.future.add_done_callback(done)


def intact() -> object:
    """Whether this copy's callback is still there."""
    return [callback for callback, _ in application.future._callbacks].count(done) == 1
