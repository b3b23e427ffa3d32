"""Leaves its function as the trace function of the thread."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

TIE = "trace function"
ALONE = True


def trace(frame: FrameType, event: str, value: object) -> Any:
    return None


def use() -> None:
    sys.settrace(trace)
