"""It starts a threading.Timer and forgets it."""

from __future__ import annotations

import threading

TIE = "timer"


def ring() -> None:
    """Do nothing."""


timer = threading.Timer(3600, ring)
timer.daemon = True
timer.start()


def intact() -> object:
    """Whether this copy's timer still waits."""
    return timer.is_alive() and not timer.finished.is_set()
