"""Lantern: the recent load of this machine, at hand for whoever asks.

A plugin as a stranger would publish it: it depends on ``weighbridge-hookspecs`` and on nothing else.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque

import attrs
from weighbridge_hookspecs import Capabilities, PluginContext, ReleaseRequest, hookimpl

__version__ = "0.1.0"


@attrs.frozen
class Reading:
    """One look at the machine."""

    seconds: float
    """``time.monotonic`` at the look."""
    load: float | None
    """Load average of the last minute; None where the system has none."""


class History:
    """The last readings, oldest first.

    Whoever gets it as a capability may ask from any thread, and the host's timer adds to it from another.
    """

    def __init__(self, keep: int) -> None:
        if keep < 1:
            raise ValueError(f"keep = {keep}: a history has at least one reading")
        self._readings: deque[Reading] = deque(maxlen=keep)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._readings)

    def look(self) -> None:
        """Take one reading."""
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        with self._lock:
            self._readings.append(Reading(time.monotonic(), load))

    def readings(self) -> tuple[Reading, ...]:
        """All readings that are kept."""
        with self._lock:
            return tuple(self._readings)

    def forget(self) -> int:
        """Drop all readings but the last; about how many bytes that was."""
        with self._lock:
            dropped = [self._readings.popleft() for _ in range(len(self._readings) - 1)]
        return sum(map(_size, dropped))


def _size(reading: Reading) -> int:
    return sys.getsizeof(reading) + sys.getsizeof(reading.seconds) + sys.getsizeof(reading.load)


class Lantern:
    """The plugin.

    Settings: ``seconds`` between readings (1.0), ``keep`` (600 readings).
    """

    def __init__(self, context: PluginContext) -> None:
        self._log = context.log
        self.history = context.track(History(keep=int(context.settings.get("keep", 600))))
        self.history.look()
        context.every(float(context.settings.get("seconds", 1.0)), self.history.look, name="look")

    @hookimpl
    def weighbridge_capabilities(self, registry: Capabilities) -> None:
        """Offer the history to others."""
        source = "os.getloadavg" if hasattr(os, "getloadavg") else "none"
        registry.register("machine-load", self.history, evidence=f"{source} answers")

    @hookimpl
    def weighbridge_release_memory(self, request: ReleaseRequest) -> int:
        """Old readings are the first thing that can go."""
        released = self.history.forget()
        self._log.info("released about %d bytes of %d wanted", released, request.bytes)
        return released

    @hookimpl
    def weighbridge_deactivate(self, reason: str) -> None:
        """Say goodbye; the timer is a lease, so the host stops it."""
        self._log.info("going out after %d readings: %s", len(self.history), reason)
