"""A plugin for the pages: it provides buffers."""

from __future__ import annotations

import mmap

from weighbridge_hookspecs import Buffer, PluginContext, hookimpl


# snippet: allocate
class MappedBuffer:
    def __init__(self, size: int) -> None:
        self._map = mmap.mmap(-1, size)
        self.nbytes = size
        self.node: int | None = None

    def view(self) -> memoryview:
        return memoryview(self._map)

    def release(self) -> None:
        self._map.close()


class Arena:
    def __init__(self, context: PluginContext) -> None:
        pass

    @hookimpl
    def weighbridge_allocate_buffer(self, size: int, node: int | None) -> Buffer | None:
        return MappedBuffer(size) if node is None else None


# end snippet
