"""Dispatcher: lets so many operations in at a time, and tells on the bus what was written."""

from __future__ import annotations

import threading
from array import array
from collections import Counter
from collections.abc import Generator

from weighbridge_hookspecs import PluginContext, hookimpl

TOLD_AT_ONCE = 64
"""Readings in one message. A message for each of them would be thousands of objects while the index is behind."""


class Dispatcher:
    """The plugin. Setting: ``at_once``, how many operations may be under way.

    It wraps the hooks of the others, and knows none of them.
    """

    def __init__(self, context: PluginContext) -> None:
        self._bus = context.bus
        self._gate = context.gate(context.settings.get("at_once", 3))
        self._lock = threading.Lock()
        self._written = array("I")
        self._done: Counter[str] = Counter()
        context.every(0.25, self.tell_all, name="tell")

    @hookimpl(wrapper=True)
    def write_reading(self, number: int) -> Generator[None, int, int]:
        """Wait for a place; afterwards, the index hears of it."""
        with self._gate.enter(timeout_seconds=60):
            checksum = yield
        with self._lock:
            self._done["written"] += 1
            self._written.extend((number, checksum))
            if len(self._written) >= 2 * TOLD_AT_ONCE:
                self._tell_written()
        return checksum

    @hookimpl(wrapper=True)
    def read_reading(self) -> Generator[None, int, int]:
        """Wait for a place."""
        with self._gate.enter(timeout_seconds=60):
            checksum = yield
        with self._lock:
            self._done["read"] += 1
        return checksum

    @hookimpl
    def tell_all(self) -> None:
        """Publish what was not published yet; the timer does so, too."""
        with self._lock:
            if self._written:
                self._tell_written()
            self._bus.publish("totals", dict(self._done))

    def _tell_written(self) -> None:
        written, self._written = self._written, array("I")
        self._bus.publish("written", written)
