"""Balloon: which hypervisor this is, what it wants back, and giving it back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from weighbridge_hookspecs import Capabilities, Fact, PluginContext, hookimpl

from .driver import Driver

__version__ = "0.1.0"


class Balloon:
    """The plugin."""

    def __init__(self, context: PluginContext, *, root: Path = Path("/")) -> None:
        self._log = context.log
        self._settings = context.settings
        self._root = root

    @cached_property
    def driver(self) -> Driver:
        """What the capability ``balloon`` gives to others; the machine is looked at once."""
        return Driver.find(self._root)

    @hookimpl
    def weighbridge_capabilities(self, registry: Capabilities) -> None:
        """Say whether there is a balloon here, and how that is known."""
        driver = self.driver
        registry.register("balloon", driver, evidence=driver.facts()[0].evidence)

    @hookimpl
    def weighbridge_examine(self) -> Sequence[Fact]:
        """Say whether this machine has a balloon."""
        return self.driver.facts()
