"""It handles a signal and never takes the handler back."""

from __future__ import annotations

import signal
from types import FrameType

TIE = "signal handler"


def handle(number: int, frame: FrameType | None) -> None:
    """Do nothing."""


NUMBER = next(one for one in (signal.SIGUSR1, signal.SIGUSR2) if signal.getsignal(one) is signal.SIG_DFL)
signal.signal(NUMBER, handle)


def intact() -> object:
    """Whether this copy's handler is still there."""
    return signal.getsignal(NUMBER) is handle
