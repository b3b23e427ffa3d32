"""A plugin for the tutorial on embedding."""

from __future__ import annotations

from weighbridge_hookspecs import PluginContext, hookimpl


# snippet: crane
class Crane:
    def __init__(self, context: PluginContext) -> None:
        self._rate = float(context.settings.get("rate", 12.5))

    @hookimpl
    def harbour_price(self, tonnes: float) -> float | None:
        return tonnes * self._rate


# end snippet
