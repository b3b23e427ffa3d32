"""It handles a signal with a function that calls the former handler, and never takes it back."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

TIE = "signal handler"


def wrap(former: Any) -> Callable[[int, FrameType | None], None]:
    """The handler of this copy."""

    def handle(number: int, frame: FrameType | None) -> None:
        """Count, and hand on."""
        calls.append(number)
        if callable(former):
            former(number, frame)

    return handle


calls: list[int] = []
handler = wrap(signal.getsignal(signal.SIGUSR1))
signal.signal(signal.SIGUSR1, handler)


def intact() -> object:
    """How often a signal reaches this copy."""
    calls.clear()
    signal.raise_signal(signal.SIGUSR1)
    return len(calls)
