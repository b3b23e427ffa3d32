"""Pressure stall information: the kernel says when tasks have waited too long for memory.

https://docs.kernel.org/accounting/psi.html. It does not see what a hypervisor asks for: a balloon that has taken all
that was free makes nobody wait.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable
from pathlib import Path
from typing import Final

import attrs
from weighbridge_hookspecs.records import PressureLevel

from ..files import read_bytes
from .descriptor import DescriptorSource
from .source import Pressure, SourceGone

_SECOND: Final = 1_000_000
_STEP_US: Final = 2 * _SECOND
_MOST_US: Final = 10 * _SECOND
_REASONS: Final = {
    errno.ENOENT: "this kernel, or this control group, has no such file",
    errno.EOPNOTSUPP: "the kernel was started without psi=1",
    errno.EPERM: "this kernel lets only root set triggers",
    errno.EACCES: "this kernel lets only root set triggers",
    errno.EINVAL: "the kernel does not take this trigger",
}


@attrs.frozen
class Trigger:
    """When the kernel is to speak up."""

    kind: str
    """``"some"``: at least one task waits; ``"full"``: all do."""
    stall_us: int
    """Microseconds of waiting within the window."""
    window_us: int

    def text(self) -> bytes:
        """What is written into the file. The kernel puts a NUL over the last byte, so one has to be there for it."""
        return f"{self.kind} {self.stall_us} {self.window_us}\0".encode("ascii")

    def coarser(self) -> Trigger:
        """The same share of a window that everybody may have: a multiple of 2 s, since Linux 6.4."""
        window = min(-(-self.window_us // _STEP_US) * _STEP_US, _MOST_US)
        return Trigger(self.kind, self.stall_us * window // self.window_us, window)


ELEVATED: Final = Trigger("some", 150_000, 2 * _SECOND)
CRITICAL: Final = Trigger("full", 150_000, 2 * _SECOND)


def parse_trigger(text: bytes) -> Trigger | None:
    """What a trigger asks for; None if it is none, such as the words of another protocol."""
    words = text.rstrip(b"\0\n").split(b" ")
    if len(words) != 3 or words[0] not in (b"some", b"full") or not all(word.isdigit() for word in words[1:]):
        return None
    stall, window = (int(word[:12]) for word in words[1:])
    return Trigger(words[0].decode("ascii"), stall, window) if window else None


def parse_total(text: bytes | None, kind: str) -> int | None:
    """Microseconds of waiting since the machine, or the group, began; None if the text does not say."""
    for line in (text or b"").splitlines():
        words = line.split()
        if words and words[0] == kind.encode("ascii"):
            for word in words[1:]:
                name, _, number = word.partition(b"=")
                if name == b"total" and number.isdigit() and len(number) <= 20:
                    return int(number)
    return None


def arm(path: Path, text: bytes) -> int:
    """Open a pressure file and set the trigger; the descriptor, which carries it.

    :raises OSError: if the kernel does not take it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.write(descriptor, text)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


class PsiSource(DescriptorSource):
    """One trigger on one file, on a descriptor of its own: a second one on the same would be refused (EBUSY).

    A trigger of somebody who is not root may fire too early: the kernel compares the first windows with an older sum
    than that of the moment when the trigger was set (``psi_trigger_create`` and ``update_triggers`` in
    https://github.com/torvalds/linux/blob/v6.12/kernel/sched/psi.c). So an event counts only if ``total=`` has grown by
    the threshold since the last one that counted.

    :param level: what an event means.
    :param total: reads the file's ``total=`` in microseconds; a test gives its own.
    """

    def __init__(
        self, path: Path, trigger: Trigger, level: PressureLevel, descriptor: int, total: Callable[[], int | None]
    ) -> None:
        super().__init__(descriptor)
        self._path = path
        self._trigger = trigger
        self._level = level
        self._total = total
        self._counted = total()

    @property
    def name(self) -> str:
        """The file and the kind."""
        return f"{self._path} {self._trigger.kind}"

    @property
    def trigger(self) -> Trigger:
        """What was asked for, as the kernel took it."""
        return self._trigger

    @property
    def mask(self) -> int:
        """Triggers are urgent data."""
        return select.POLLPRI

    def look(self, events: int) -> Pressure | None:
        """Polling has consumed the event: what is left is to say whether it counts.

        :raises SourceGone: if the control group was removed.
        """
        if events & (select.POLLERR | select.POLLNVAL):
            raise SourceGone(f"{self._path} is gone")
        now = self._total()
        if now is None or self._counted is None:
            self._counted = now
            return self._pressure("tasks waited for memory")
        waited = now - self._counted
        if waited < self._trigger.stall_us:
            return None
        self._counted = now
        return self._pressure(f"tasks waited {waited / 1000:.0f} ms for memory since the last time")

    def _pressure(self, evidence: str) -> Pressure:
        return Pressure(level=self._level, source=self.name, evidence=evidence)


def open_psi(
    path: Path, trigger: Trigger, level: PressureLevel, *, arm: Callable[[Path, bytes], int] = arm
) -> PsiSource:
    """Set a trigger; if the kernel does not take its window, one that everybody may have.

    :raises OSError: if it takes neither; see :func:`why_not`.
    """
    try:
        descriptor = arm(path, trigger.text())
    except OSError as error:
        if error.errno != errno.EINVAL or trigger.coarser() == trigger:
            raise
        trigger = trigger.coarser()
        descriptor = arm(path, trigger.text())
    return PsiSource(path, trigger, level, descriptor, lambda: parse_total(read_bytes(path), trigger.kind))


def why_not(error: OSError) -> str:
    """What an error of a pressure file means."""
    return _REASONS.get(error.errno or 0, os.strerror(error.errno) if error.errno else str(error))
