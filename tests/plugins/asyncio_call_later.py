"""It asks a loop of the application's, which runs in a thread, to call it in an hour."""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import Future
from types import ModuleType
from typing import Any

TIE = "asyncio callback"
# stands for a module of the application, which both copies of this plugin know
application: Any = sys.modules.setdefault("application", ModuleType("application"))
if "loop" not in application.__dict__:
    application.loop = asyncio.new_event_loop()
    threading.Thread(target=application.loop.run_forever, daemon=True).start()


class Alarm:
    """Rings."""

    def ring(self, tone: str) -> None:
        """Do nothing."""


def _ask(handles: Future[asyncio.TimerHandle]) -> None:
    handles.set_result(application.loop.call_later(3600, Alarm().ring, "high"))


_asked: Future[asyncio.TimerHandle] = Future()
application.loop.call_soon_threadsafe(_ask, _asked)
handle = _asked.result(10)


def intact() -> object:
    """Whether this copy is still to be called."""
    return not handle.cancelled() and any(one is handle for one in application.loop._scheduled)
