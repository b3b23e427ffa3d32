"""One at a time for each key: those who come for the same one wait for each other, and nobody else does."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager


class Turns:
    """Thread-safe. A thread may take a turn that it has already. Nothing is kept of a key that nobody asks for."""

    def __init__(self) -> None:
        self._turns: dict[Hashable, _Turn] = {}
        self._lock = threading.RLock()  # the collector may run a finalizer that takes a turn

    @contextmanager
    def turn(self, key: Hashable) -> Iterator[None]:
        """Wait until nobody else has the turn of `key`, and have it for as long as the block lasts."""
        with self._lock:
            turn = self._turns.setdefault(key, _Turn())
            turn.nwaiting += 1
        try:
            with turn.lock:
                yield
        finally:
            with self._lock:
                turn.nwaiting -= 1
                if not turn.nwaiting:
                    self._turns.pop(key, None)


class _Turn:
    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.nwaiting = 0
