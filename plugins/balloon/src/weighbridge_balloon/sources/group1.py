"""Pressure in a control group of version 1: an eventfd that the kernel counts up."""

from __future__ import annotations

import os
import select
from pathlib import Path

from weighbridge_hookspecs.records import PressureLevel

from .descriptor import DescriptorSource
from .source import Pressure, SourceGone


class PressureLevelSource(DescriptorSource):
    """``memory.pressure_level``: https://docs.kernel.org/admin-guide/cgroup-v1/memory.html#memory-pressure

    A group in trouble has hundreds of events a second. They add up in the eventfd, whose counter is read at one go.

    :param word: ``"low"``, ``"medium"`` or ``"critical"``: events of that level and above.
    :param level: what an event means.
    :raises OSError: if the group does not take it.
    """

    def __init__(self, group: Path, word: str, level: PressureLevel) -> None:
        self._name = f"{group / 'memory.pressure_level'} {word}"
        self._group = group
        self._level = level
        eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        super().__init__(eventfd)
        try:
            _register(group, eventfd, word)
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """The file and the level."""
        return self._name

    @property
    def mask(self) -> int:
        """Something to read."""
        return select.POLLIN

    def look(self, events: int) -> Pressure | None:
        """How many events there were since the last look.

        :raises SourceGone: if the group was removed, which counts the eventfd up once more.
        """
        if self._descriptor is None:
            raise SourceGone(f"{self._name} was given back")
        try:
            count = os.eventfd_read(self._descriptor)
        except BlockingIOError:
            return None
        if not self._group.is_dir():
            raise SourceGone(f"{self._group} was removed")
        return Pressure(level=self._level, source=self._name, evidence=f"{count} events since the last look")


def _register(group: Path, eventfd: int, word: str) -> None:
    """Tell the group. Its file need not stay open once it has been told.

    :raises OSError: if it does not take it.
    """
    level = os.open(group / "memory.pressure_level", os.O_RDONLY | os.O_CLOEXEC)
    try:
        control = os.open(group / "cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(control, f"{eventfd} {level} {word}".encode("ascii"))
        finally:
            os.close(control)
    finally:
        os.close(level)
