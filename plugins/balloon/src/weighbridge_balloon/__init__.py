"""Balloon: which hypervisor this is, what it wants back, and giving it back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import attrs
from weighbridge_hookspecs import (
    AdmissionRequest,
    Capabilities,
    Fact,
    Lease,
    PluginContext,
    ReleaseRequest,
    Verdict,
    hookimpl,
)
from weighbridge_hookspecs.records import PressureLevel

from .control import PressureControl
from .driver import Driver, find
from .hypervisor import detect_here
from .release import ReleaseReceipt, Standing
from .settings import PressureSettings, read_settings
from .slabs import SlabCache

__version__ = "0.1.0"
__all__ = ["Balloon", "Driver", "PressureControl", "PressureSettings", "ReleaseReceipt", "SlabCache", "Standing"]


class Balloon:
    """The plugin.

    Settings: ``cpuid`` (true): whether machine code may be run that asks the processor for its hypervisor; and those of
    :class:`~weighbridge_balloon.settings.PressureSettings`.
    """

    def __init__(self, context: PluginContext) -> None:
        self._log = context.log
        self._settings = context.settings
        self._pressure_settings = read_settings(context.settings)
        self._context = context

    @cached_property
    def driver(self) -> Driver:
        """What the capability ``balloon`` gives to others; the machine is looked at once."""
        driver = find(detect_here(allow_cpuid=bool(self._settings.get("cpuid", True))))
        return attrs.evolve(driver, pressure=self.pressure)

    @cached_property
    def pressure(self) -> PressureControl:
        """What watches the machine; it does not before it is opened."""
        return PressureControl(
            self._pressure_settings,
            log=self._log,
            relay=self._relieve,
            charge=self._charge,
        )

    @hookimpl
    def weighbridge_capabilities(self, registry: Capabilities) -> None:
        """Say whether there is a balloon here, and how that is known."""
        driver = self.driver
        registry.register("balloon", driver, evidence=driver.evidence, details=driver.details())
        self._log.info("hypervisor: %s; balloon: %s", driver.hypervisor.kind, driver.is_available)

    @hookimpl
    def weighbridge_examine(self) -> Sequence[Fact]:
        """Say what this machine runs under, and whether it has a balloon."""
        return [*self.driver.facts(), *self.pressure.facts()]

    @hookimpl
    def weighbridge_activate(self) -> None:
        """Begin to watch the machine, if there is anything to watch."""
        if self.pressure.open(may_have_balloon=self.driver.is_available is not False):
            self._context.spawn(self.pressure.run, name="watch")

    @hookimpl
    def weighbridge_deactivate(self, reason: str) -> None:
        """Stop watching."""
        self.pressure.close()

    @hookimpl
    def weighbridge_admit(self, request: AdmissionRequest) -> Verdict | None:
        """Let nobody in while the memory of the machine is short."""
        return self.pressure.verdict(request)

    @hookimpl
    def weighbridge_release_memory(self, request: ReleaseRequest) -> int:
        """Have the caches go that others have through this plugin."""
        return self.pressure.release_own(request.bytes)

    def _relieve(self, nbytes: int, level: PressureLevel) -> int:
        return self._context.relieve(nbytes, level=level)

    def _charge(self, nbytes: int, label: str) -> Lease:
        return self._context.charge(nbytes, label)
