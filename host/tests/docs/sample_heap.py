"""A plugin for the pages: it holds memory that Python cannot see."""

from __future__ import annotations

import mmap

from weighbridge_hookspecs import PluginContext, ReleaseRequest, hookimpl


class Heap:
    """Keeps pages outside of Python's allocator, and spare ones in case."""

    def __init__(self, context: PluginContext) -> None:
        self._in_use = mmap.mmap(-1, 8 * 4096)
        self._spare = [mmap.mmap(-1, 4096) for _ in range(16)]

    # snippet: report
    @hookimpl
    def weighbridge_report_memory(self) -> int:
        return len(self._in_use) + sum(len(page) for page in self._spare)

    # end snippet
    # snippet: release
    @hookimpl
    def weighbridge_release_memory(self, request: ReleaseRequest) -> int:
        released = 0
        while self._spare and released < request.bytes:
            page = self._spare.pop()
            released += len(page)
            page.close()
        return released

    # end snippet
