"""Reader: reads readings back, and keeps those at hand that will be asked for again."""

from __future__ import annotations

import threading
import zlib

from weighbridge_hookspecs import PluginContext, ReleaseRequest, hookimpl


class Reader:
    """The plugin. Settings: ``file``, ``reading_bytes``, ``slots``, and ``keep_bytes``, which it keeps at most."""

    def __init__(self, context: PluginContext) -> None:
        settings = context.settings
        self._buffers = context.buffers
        self._nbytes: int = settings["reading_bytes"]
        self._slots: int = settings["slots"]
        self._kept = context.cache(max_items=100_000, max_bytes=settings["keep_bytes"])
        self._file = open(settings["file"], "rb", buffering=0)  # noqa: SIM115 - closed when it is deactivated
        self._turn = threading.Lock()

    @hookimpl
    def read_reading(self, number: int, keep: bool) -> int:
        """The checksum of what is kept, or else of what is in the file."""
        kept: bytes | None = self._kept.get(number)
        if kept is not None:
            return zlib.crc32(kept)
        with self._turn:
            self._file.seek(number % self._slots * self._nbytes)
            lent = self._buffers.read_into(self._file, self._nbytes)
        with lent as reading:
            if int.from_bytes(reading[:8], "little") != number:
                raise LookupError(f"reading {number} was overwritten")
            if keep:  # a copy: as long as a buffer is kept, it cannot be rented again
                self._kept.put(number, bytes(reading), nbytes=self._nbytes)
            return zlib.crc32(reading)

    @hookimpl
    def weighbridge_release_memory(self, request: ReleaseRequest) -> int:
        """Everything kept is in the file as well. Twice what is wanted, or it would be asked again at once."""
        return self._kept.trim(2 * request.bytes)

    @hookimpl
    def weighbridge_deactivate(self, reason: str) -> None:
        """Buffers and cache are leases, and go by themselves; the file is the plugin's own."""
        self._file.close()
