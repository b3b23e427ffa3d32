"""What a plugin weighed before its unload, and what is left afterwards."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import FunctionType, ModuleType

from ..accounting.immortal import immortal_bytes
from ..accounting.meters import read, traced_bytes
from ..accounting.process import ProcessMemory
from ..reclaim.heap import gather
from .course import Course
from .plugin import Plugin


class Scales:
    """Two looks at the process, one on each side of an unload.

    Traced bytes are comparable only if tracing was on from before the load until now; None otherwise.
    """

    def __init__(self, memory: ProcessMemory, plugin: Plugin) -> None:
        self._memory = memory
        self._plugin = plugin
        comparable = plugin.traced_since_load and traced_bytes() is not None
        if comparable:
            gc.collect()  # garbage that the next collection would take anyway was not reclaimed by the unload
        before = read()
        self.held_bytes = plugin.held_bytes
        self.traced_before_bytes = before.traced_bytes if comparable else None
        self.objects_before = before.blocks
        self.resident_before_bytes = memory.resident_bytes()
        self.traced_after_bytes: int | None = None
        self.objects_after = self.resident_after_bytes = 0
        self.expected_bytes: int | None = None
        self.immortal_bytes: int | None = None
        self.stdlib_bytes: int | None = None

    def weigh_again(self, course: Course) -> None:
        """Look once more, when all is done."""
        after = read()
        own_bytes, own_blocks = course.own_weight()
        self.objects_after = after.blocks - own_blocks
        self.resident_after_bytes = self._memory.resident_bytes()
        weighing = self._plugin.weighing
        if weighing is not None and weighing.traced_bytes is not None:
            self.expected_bytes = max(0, weighing.traced_bytes - course.departure.excused_bytes)
            self.stdlib_bytes = course.departure.stdlib_bytes
        if self.traced_before_bytes is not None and after.traced_bytes is not None:
            self.traced_after_bytes = after.traced_bytes - own_bytes
            self.immortal_bytes = immortal_bytes(course.files, _living)

    @property
    def reclaimed_bytes(self) -> int | None:
        """Traced bytes that came back."""
        if self.traced_before_bytes is None or self.traced_after_bytes is None:
            return None
        return self.traced_before_bytes - self.traced_after_bytes

    @property
    def reclaimed_share(self) -> float | None:
        """Of those that had to come back."""
        reclaimed = self.reclaimed_bytes
        return reclaimed / self.expected_bytes if reclaimed is not None and self.expected_bytes else None

    def left_bytes(self, course: Course) -> int:
        """What stays on the account of a plugin that is stranded: buffers that are still in use, and Python's memory.

        Where both were measured they may be the same bytes, so it is the more of the two.
        """
        if self.expected_bytes is None:
            return self.held_bytes
        alive = course.alive()
        buffers = sum(len(block) for one in alive if one.kind == "buffer" and (block := one.reference()) is not None)
        if self.reclaimed_bytes is not None:
            return max(buffers, self.expected_bytes - self.reclaimed_bytes)
        stuck = course.departure.stuck_bytes
        others = any(one.kind != "buffer" for one in alive)
        # where nothing traces, all of it may be left, unless nothing but buffers and modules that cannot go is
        return max(buffers, self.expected_bytes if others or stuck is None else stuck)


def _living() -> Iterator[object]:
    for things in gather((FunctionType, ModuleType, type)).values():
        yield from things
