"""Index: knows the checksum of every reading; the last ones in memory, all of them in the store."""

from __future__ import annotations

import json
import threading
from array import array

from weighbridge_hookspecs import PluginContext, hookimpl

SEGMENT = 256
"""Checksums that are stored together: one put for so many readings, since every put waits for the disk."""
SEGMENT_BYTES = 4 * SEGMENT


class Index:
    """The plugin. Setting: ``segments``, how many it has in memory."""

    def __init__(self, context: PluginContext) -> None:
        self._store = context.store
        segments = context.settings.get("segments", 2)
        self._segments = context.cache(segments, segments * SEGMENT_BYTES, on_evict=self._put)
        self._turn = threading.Lock()
        context.bus.subscribe("written", self._note)
        context.bus.subscribe("totals", self._keep_totals)

    @hookimpl
    def find_checksum(self, number: int) -> int | None:
        """The checksum of a reading; None if it was never noted."""
        with self._turn:
            return self._segment(number)[number % SEGMENT] or None

    @hookimpl
    def weighbridge_deactivate(self, reason: str) -> None:
        """What is in memory alone goes into the store; the host would only drop it."""
        with self._turn:
            self._segments.clear()

    def _note(self, written: array[int]) -> None:
        with self._turn:
            for number, checksum in zip(written[::2], written[1::2], strict=True):
                self._segment(number)[number % SEGMENT] = checksum

    def _segment(self, number: int) -> array[int]:
        key = number // SEGMENT
        found: array[int] | None = self._segments.get(key)
        if found is None:
            found = array("I", self._store.get(f"segment-{key:08}") or bytes(SEGMENT_BYTES))
            self._segments.put(key, found, nbytes=SEGMENT_BYTES)
        return found

    def _put(self, key: int, segment: array[int]) -> None:
        self._store.put(f"segment-{key:08}", segment.tobytes())

    def _keep_totals(self, totals: dict[str, int]) -> None:
        self._store.put("totals", json.dumps(totals).encode())
