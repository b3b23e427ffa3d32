"""Telling work that it should end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from weighbridge_hookspecs import Cancelled


class CancelToken:
    """Says whether work should end: because somebody called it off, or because its time is up. Thread-safe.

    It is a ``StopToken`` of the contract. A copy in another process knows the deadline, and not what happens here.

    :param deadline: when the time is up, by ``time.monotonic()``; None: never.
    :param parent: a token whose end is the end of this one, too.
    """

    __slots__ = ("__weakref__", "_deadline", "_event", "_listeners", "_lock", "_parent")

    def __init__(self, deadline: float | None = None, *, parent: CancelToken | None = None) -> None:
        self._deadline = deadline
        self._parent = parent
        # One that has a parent is set by nobody but that one and the time.
        self._event: threading.Event = threading.Event() if parent is None else parent._event
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], object]] = []

    def is_set(self) -> bool:
        """True once the work should end."""
        return self._event.is_set() or self.remaining_seconds == 0

    @property
    def remaining_seconds(self) -> float | None:
        """Seconds until the time is up, 0 if it is; None where there is no deadline."""
        above = None if self._parent is None else self._parent.remaining_seconds
        if self._deadline is None:
            return above
        left = max(self._deadline - time.monotonic(), 0.0)
        return left if above is None else min(left, above)

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep until the work should end or `timeout` seconds have passed; true if it should end."""
        left = self.remaining_seconds
        if left is not None:
            timeout = left if timeout is None else min(timeout, left)
        self._event.wait(None if timeout is None else min(max(timeout, 0), threading.TIMEOUT_MAX))
        return self.is_set()

    def raise_if_set(self) -> None:
        """Nothing, as long as the work may go on.

        :raises Cancelled: once it should end.
        """
        if self.is_set():
            raise Cancelled("the work was called off", step="run")

    def set(self) -> None:
        """Call the work off. A second time does nothing."""
        with self._lock:
            self._event.set()
            listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener()

    def on_set(self, listener: Callable[[], object]) -> None:
        """Have `listener` called, in the thread that calls the work off; at once if that has happened."""
        with self._lock:
            if not self._event.is_set():
                self._listeners.append(listener)
                return
        listener()

    def forget(self, listener: Callable[[], object]) -> None:
        """Take back what `on_set` was given; fine if it is not there."""
        with self._lock:
            self._listeners = [one for one in self._listeners if one != listener]

    def __reduce__(self) -> tuple[Callable[..., CancelToken], tuple[float | None, bool]]:
        return _elsewhere, (self.remaining_seconds, self._event.is_set())


def _elsewhere(remaining_seconds: float | None, is_set: bool) -> CancelToken:
    """The token as another process has it: clocks differ, and the time that is left does not."""
    token = CancelToken(None if remaining_seconds is None else time.monotonic() + remaining_seconds)
    if is_set:
        token.set()
    return token
