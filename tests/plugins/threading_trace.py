"""Leaves its function for threading to trace new threads with."""

from __future__ import annotations

import threading
from types import FrameType
from typing import Any

TIE = "trace function"
ALONE = True


def trace(frame: FrameType, event: str, value: object) -> Any:
    return None


threading.settrace(trace)
