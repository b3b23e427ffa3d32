"""Leaves its function as the profile function of the thread and of those that are started later."""

from __future__ import annotations

import sys
import threading
from types import FrameType

TIE = "trace function"
ALONE = True


def profile(frame: FrameType, event: str, value: object) -> None: ...


def use() -> None:
    sys.setprofile(profile)
    threading.setprofile(profile)
