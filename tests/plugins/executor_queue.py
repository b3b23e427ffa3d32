"""It leaves a call in the queue of an executor of the application's."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

TIE = "executor"
# stands for a module of the application, which both copies of this plugin know
application: Any = sys.modules.setdefault("application", ModuleType("application"))
if "executor" not in application.__dict__:
    application.executor = ThreadPoolExecutor(1)
    application.executor._adjust_thread_count = int  # no thread begins, so that calls wait


def work() -> None:
    """Do nothing."""


future = application.executor.submit(work)


def intact() -> object:
    """Whether this copy's call still waits."""
    return not future.cancelled() and not future.done()
