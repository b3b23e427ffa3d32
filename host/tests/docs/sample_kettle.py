"""A plugin for the pages on services: one use of each."""

from __future__ import annotations

import logging
import mmap
import queue

from weighbridge_hookspecs import Capabilities, PluginContext, StopToken, hookimpl


class Steam:
    """What has to be gone when the plugin is gone."""


class Kettle:
    """Uses everything that a host lends."""

    def __init__(self, context: PluginContext) -> None:
        self.context = context
        self.jobs: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.done: list[str] = []
        self.looks = 0
        self.boil()
        self.fill()
        self.watch_it()
        self.begin()
        self.say()
        self.choose()

    # snippet: track
    def boil(self) -> None:
        self.steam = self.context.track(Steam())

    # end snippet
    # snippet: charge
    def fill(self) -> None:
        self.water = mmap.mmap(-1, 64 * 4096)
        self.lease = self.context.charge(len(self.water), "water")

    def pour(self) -> None:
        self.water.close()
        self.lease.release()

    # end snippet
    # snippet: every
    def watch_it(self) -> None:
        self.context.every(0.05, self.look, name="look")

    def look(self) -> None:
        self.looks += 1

    # end snippet
    # snippet: spawn
    def begin(self) -> None:
        self.context.spawn(self.work, name="work")

    def work(self, stop: StopToken) -> None:
        while not stop.is_set():
            try:
                self.done.append(self.jobs.get(timeout=0.05))
            except queue.Empty:
                continue

    # end snippet
    # snippet: log
    def say(self) -> None:
        self.context.log.addHandler(logging.NullHandler())
        self.context.log.info("the water is on")

    # end snippet
    # snippet: settings
    def choose(self) -> None:
        self.degrees = float(self.context.settings.get("degrees", 100.0))

    # end snippet
    # snippet: budget
    def has_room_for(self, nbytes: int) -> bool:
        headroom = self.context.budget.headroom_bytes
        return headroom is None or nbytes <= headroom

    # end snippet
    # snippet: capabilities
    def pressure(self) -> object:
        if "water-pressure" not in self.context.capabilities:
            return None
        return self.context.capabilities["water-pressure"]

    # end snippet
    @hookimpl
    def weighbridge_capabilities(self, registry: Capabilities) -> None:
        """Hand the plugin object to the test."""
        registry.register("kettle", self, evidence="for the test")
