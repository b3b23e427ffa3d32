"""Leaves a trace function in the frame that called it, which runs on."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

TIE = "trace function"
ALONE = True


def trace(frame: FrameType, event: str, value: object) -> Any:
    return None


def use() -> None:
    sys._getframe(1).f_trace = trace
