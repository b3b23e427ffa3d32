"""It starts a thread and forgets it: an earlier step than the ties stops it."""

from __future__ import annotations

import threading
import time

TIE = ()


def turn() -> None:
    """Run until the thread is stopped."""
    while True:
        time.sleep(0.01)


thread = threading.Thread(target=turn, daemon=True)
thread.start()


def intact() -> object:
    """Whether this copy's thread still runs."""
    return thread.is_alive()
