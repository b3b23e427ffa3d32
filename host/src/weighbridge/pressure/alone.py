"""One attempt at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Alone:
    """A lock that its own thread does not get again: what it calls may come back, and finds somebody at work."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at_work: int | None = None

    @contextmanager
    def taken(self, *, wait_seconds: float) -> Iterator[bool]:
        """Whether it is this thread's turn.

        :param wait_seconds: for another thread. The own one is never waited for.
        """
        here = threading.get_ident()
        if self._at_work == here or not self._lock.acquire(timeout=wait_seconds):
            yield False
            return
        self._at_work = here
        try:
            yield True
        finally:
            self._at_work = None
            self._lock.release()
