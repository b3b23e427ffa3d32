"""Memory that Python cannot see, put on an account by whoever holds it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import MappingProxyType


class Charges:
    """Bytes by label. Thread-safe."""

    def __init__(self) -> None:
        self._bytes: dict[str, int] = {}
        self._total = 0
        self._lock = threading.Lock()

    def add(self, label: str, nbytes: int) -> None:
        """Add `nbytes` to `label`; a negative number takes them off again."""
        with self._lock:
            self._total += nbytes
            left = self._bytes.get(label, 0) + nbytes
            if left:
                self._bytes[label] = left
            else:
                self._bytes.pop(label, None)

    @property
    def total_bytes(self) -> int:
        """The sum over all labels; kept, not computed, because every admission asks every plugin for it."""
        return self._total

    def by_label(self) -> Mapping[str, int]:
        """A copy, label by label."""
        with self._lock:
            return MappingProxyType(dict(self._bytes))
