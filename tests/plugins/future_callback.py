"""It adds a callback to a future of the application's that is not done."""

from __future__ import annotations

import sys
from concurrent.futures import Future
from types import ModuleType
from typing import Any

TIE = "future callback"
# stands for a module of the application, which both copies of this plugin know
application: Any = sys.modules.setdefault("application", ModuleType("application"))
application.__dict__.setdefault("future", Future())


def done(future: Future[None]) -> None:
    """Do nothing."""


application.future.add_done_callback(done)


def intact() -> object:
    """Whether this copy's callback is still there."""
    return application.future._done_callbacks.count(done) == 1
