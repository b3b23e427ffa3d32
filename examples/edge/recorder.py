"""Recorder: takes readings of a sensor and keeps the last ones in a file of fixed length."""

from __future__ import annotations

import threading
import zlib
from typing import Any

from weighbridge_hookspecs import PluginContext, hookimpl


class Sensor:
    """Stands for a device. As a driver does, it fills the buffer that it is given."""

    def __init__(self, nbytes: int) -> None:
        self._signal = bytes(number % 251 for number in range(nbytes))

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer; how many bytes it put there."""
        buffer[:] = self._signal
        return len(self._signal)


class Recorder:
    """The plugin. Settings: ``file``, ``reading_bytes`` and ``slots``, the number of readings that the file has."""

    def __init__(self, context: PluginContext) -> None:
        self._buffers = context.buffers
        self._nbytes: int = context.settings["reading_bytes"]
        self._slots: int = context.settings["slots"]
        self._sensor = Sensor(self._nbytes)
        self._file = open(context.settings["file"], "wb", buffering=0)  # noqa: SIM115 - closed when it is deactivated
        self._turn = threading.Lock()

    @hookimpl
    def write_reading(self, number: int) -> int:
        """Take a reading into a rented buffer, and write it from there."""
        with self._buffers.read_into(self._sensor, self._nbytes) as reading:
            reading[:8] = number.to_bytes(8, "little")
            with self._turn:
                self._file.seek(number % self._slots * self._nbytes)
                self._file.write(reading)
            return zlib.crc32(reading)

    @hookimpl
    def weighbridge_deactivate(self, reason: str) -> None:
        """The buffers are a lease, and go by themselves; the file is the plugin's own."""
        self._file.close()
