"""Keeping the process under its ceiling while it runs."""

from __future__ import annotations

from functools import partial
from typing import Final

from weighbridge_hookspecs import Event, LeaseError
from weighbridge_hookspecs.records import PressureLevel

from ..accounting.process import ProcessMemory
from ..hooks import Hooks
from ..leases.schedule import TaskStillRunning
from ..pressure.ceiling import Ceiling
from ..pressure.monitor import MemoryMonitor
from ..pressure.relief import Relief
from ..pressure.settings import MemorySettings
from .arrivals import Arrivals
from .services import Services
from .words import in_words


class Watch:
    """A monitor on the timer thread of a host, until :meth:`end`."""

    def __init__(
        self,
        settings: MemorySettings,
        ceiling: Ceiling,
        memory: ProcessMemory,
        relief: Relief,
        services: Services,
        hooks: Hooks,
        arrivals: Arrivals,
    ) -> None:
        changed = partial(_tell, hooks, services, arrivals)
        self.monitor: Final = MemoryMonitor(
            settings, ceiling, memory.resident_bytes, relief, changed, services.resize_buffers
        )
        self._stop: Final = services.scheduler.every(settings.check_seconds, self.monitor.check, name="memory")

    def end(self) -> list[LeaseError]:
        """Look no more; what went wrong. Ending twice does nothing."""
        try:
            self._stop()
        except TaskStillRunning as error:  # a plugin that was asked for memory has not come back
            return [LeaseError(in_words(error), step="close")]
        return []


def _tell(
    hooks: Hooks, services: Services, arrivals: Arrivals, level: PressureLevel, usage_bytes: int, reason: str
) -> None:
    hooks.event(Event(kind="pressure", level=level, bytes=usage_bytes, reason=reason))
    if level == "nominal" and arrivals.doorkeeper.waiting():
        # not here: a load takes its time, and this is the thread of all timers
        services.scheduler.spawn(lambda stop: arrivals.retry_deferred(), name="deferred-loads")
