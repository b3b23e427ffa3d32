"""The application keeps a generator that has not ended."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from queue import SimpleQueue
from types import ModuleType
from typing import Any

TIE = "suspended"
# stands for a module of the application, which both copies of this plugin know
application: Any = sys.modules.setdefault("application", ModuleType("application"))


def steps() -> Iterator[int]:
    """Two numbers."""
    yield 1
    yield 2


kept: Any = steps()
next(kept)
application.__dict__.setdefault("inbox", SimpleQueue()).put(kept)


def intact() -> object:
    """Whether this copy's can still go on."""
    return kept.gi_frame is not None
