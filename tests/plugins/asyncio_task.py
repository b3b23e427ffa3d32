"""It creates a task on a loop of the application's, and does not wait for it."""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType
from typing import Any

TIE = "asyncio task"
# stands for a module of the application, which both copies of this plugin know
application: Any = sys.modules.setdefault("application", ModuleType("application"))
if "loop" not in application.__dict__:
    application.loop = asyncio.new_event_loop()


async def work() -> None:
    """Wait for a long time."""
    await asyncio.sleep(3600)


task = application.loop.create_task(work())


def intact() -> object:
    """Whether this copy's task has not ended."""
    return not task.done() and not task.cancelling()
