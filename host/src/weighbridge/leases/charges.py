"""Memory that Python cannot see, put on an account by whoever holds it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from types import MappingProxyType


class Charges:
    """Bytes by label. Thread-safe, also for finalizers, which the collector may run in the midst of any of this."""

    def __init__(self) -> None:
        self._bytes: dict[str, int] = {}
        self._total = 0
        self._pending: deque[tuple[str, int]] = deque()
        self._lock = threading.RLock()
        self._settles = False

    def add(self, label: str, nbytes: int) -> None:
        """Add `nbytes` to `label`; a negative number takes them off again."""
        self._pending.append((label, nbytes))
        self._settle()

    def _settle(self) -> None:
        """Enter what is pending. A finalizer that comes in between only appends, and this loop sees it."""
        with self._lock:
            if self._settles:
                return
            self._settles = True
            try:
                while self._pending:
                    self._enter(*self._pending.popleft())
            finally:
                self._settles = False

    def _enter(self, label: str, nbytes: int) -> None:
        self._total += nbytes
        left = self._bytes.get(label, 0) + nbytes
        if left:
            self._bytes[label] = left
        else:
            self._bytes.pop(label, None)

    @property
    def total_bytes(self) -> int:
        """The sum over all labels; kept, not computed, because every admission asks every plugin for it."""
        if self._pending:
            self._settle()
        return self._total

    def by_label(self) -> Mapping[str, int]:
        """A copy, label by label."""
        self._settle()
        with self._lock:
            return MappingProxyType(dict(self._bytes))
