"""A plugin for the pages: it starts at its activation and says goodbye."""

from __future__ import annotations

from weighbridge_hookspecs import Capabilities, PluginContext, hookimpl


# snippet: activate
class Pump:
    def __init__(self, context: PluginContext) -> None:
        self._context = context
        self.strokes = 0
        self.is_stroking = False

    @hookimpl
    def weighbridge_activate(self) -> None:
        self._context.every(3600.0, self.stroke, name="stroke")

    def stroke(self) -> None:
        self.strokes += 1

    # end snippet
    # snippet: deactivate
    @hookimpl
    def weighbridge_deactivate(self, reason: str) -> None:
        self._context.log.info("stopped after %d strokes: %s", self.strokes, reason)

    # end snippet
    # snippet: capabilities
    @hookimpl
    def weighbridge_capabilities(self, registry: Capabilities) -> None:
        registry.register("water-pressure", self.stroke, evidence="the gauge answered", details={"unit": "bar"})

    # end snippet
    # snippet: veto
    @hookimpl
    def weighbridge_veto_unload(self, plugin: str, reason: str) -> str | None:
        return "a stroke is half done" if plugin == "pump" and self.is_stroking else None

    # end snippet
