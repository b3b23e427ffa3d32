"""Balloon: which hypervisor this is, what it wants back, and giving it back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from weighbridge_hookspecs import Capabilities, Fact, PluginContext, hookimpl

from .driver import Driver, find
from .hypervisor import detect_here

__version__ = "0.1.0"


class Balloon:
    """The plugin.

    Settings: ``cpuid`` (true): whether machine code may be run that asks the processor for its hypervisor.
    """

    def __init__(self, context: PluginContext) -> None:
        self._log = context.log
        self._settings = context.settings

    @cached_property
    def driver(self) -> Driver:
        """What the capability ``balloon`` gives to others; the machine is looked at once."""
        return find(detect_here(allow_cpuid=bool(self._settings.get("cpuid", True))))

    @hookimpl
    def weighbridge_capabilities(self, registry: Capabilities) -> None:
        """Say whether there is a balloon here, and how that is known."""
        driver = self.driver
        registry.register("balloon", driver, evidence=driver.evidence, details=driver.details())
        self._log.info("hypervisor: %s; balloon: %s", driver.hypervisor.kind, driver.is_available)

    @hookimpl
    def weighbridge_examine(self) -> Sequence[Fact]:
        """Say what this machine runs under, and whether it has a balloon."""
        return self.driver.facts()
