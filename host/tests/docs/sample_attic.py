"""A plugin for the page on pressure: it keeps everything, and lets go of it when it is asked to."""

from __future__ import annotations

from weighbridge_hookspecs import Capabilities, CeilingExceeded, PluginContext, ReleaseRequest, hookimpl

MIB = 1 << 20


# snippet: attic
class Attic:
    def __init__(self, context: PluginContext) -> None:
        self.context = context
        self.boxes = context.cache(max_items=100_000, max_bytes=1 << 40)
        context.every(float(context.settings.get("seconds", 3600.0)), self.carry_up, name="carry-up")

    def carry_up(self, boxes: int = 1) -> None:
        for _ in range(boxes):
            self.boxes.put(object(), b"x" * MIB, nbytes=MIB)

    @hookimpl
    def weighbridge_release_memory(self, request: ReleaseRequest) -> int:
        return self.boxes.trim(request.bytes)

    # end snippet
    # snippet: exceeded
    def answer(self, nbytes: int) -> str:
        try:
            with self.context.buffers.rent(nbytes) as view:
                return f"200, {len(view)} bytes"
        except CeilingExceeded as full:
            return f"503, {full.used_bytes} of {full.ceiling_bytes} bytes are in use"

    # end snippet
    @hookimpl
    def weighbridge_capabilities(self, registry: Capabilities) -> None:
        """Hand the plugin object to the test."""
        registry.register("attic", self, evidence="for the test")
