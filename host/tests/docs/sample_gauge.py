"""A plugin for the pages: it knows of pressure that the host does not see."""

from __future__ import annotations

from weighbridge_hookspecs import PluginContext


class Gauge:
    """Reads how much memory the machine has left, and has others give some back when it is too little."""

    def __init__(self, context: PluginContext) -> None:
        self.context = context
        self.reserve = int(context.settings.get("reserve_bytes", 64 << 20))

    # snippet: relieve
    def look(self) -> int:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":") for line in file)
        available = int(fields["MemAvailable"].removesuffix("kB\n")) * 1024
        if available >= self.reserve:
            return 0
        return self.context.relieve(self.reserve - available, level="critical")

    # end snippet
