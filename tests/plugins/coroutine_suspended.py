"""The application keeps a coroutine that has not ended."""

from __future__ import annotations

import sys
from queue import SimpleQueue
from types import ModuleType
from typing import Any

TIE = "suspended"
# stands for a module of the application, which both copies of this plugin know
application: Any = sys.modules.setdefault("application", ModuleType("application"))


async def steps() -> None:
    """Do nothing."""


kept: Any = steps()
application.__dict__.setdefault("inbox", SimpleQueue()).put(kept)


def intact() -> object:
    """Whether this copy's can still go on."""
    return kept.cr_frame is not None
