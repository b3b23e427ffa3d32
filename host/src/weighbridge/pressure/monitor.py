"""The monitor: how near the process is to its ceiling, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
from weighbridge_hookspecs.records import PressureLevel

from ..units import format_bytes
from .alone import Alone
from .ceiling import Ceiling
from .relief import Relief
from .settings import MemorySettings

RELIEF_SHARE: Final = 1 / 16
"""Of the threshold: by so much usage has to fall below it before all is well again."""
_AGAIN_SHARE: Final = 1 / 64
_AGAIN_CHECKS: Final = 6


@attrs.frozen(kw_only=True)
class MemoryStatistics:
    """Where the process stands under its ceiling, by the last check, and what was done so far."""

    level: PressureLevel
    usage_bytes: int
    ceiling_bytes: int
    """In force: the lower of the next two."""
    own_ceiling_bytes: int | None
    outside_limit_bytes: int | None
    """None: the system sets none, or nobody looks."""
    outside_limit_source: str | None
    """The file that it was read from."""
    threshold_bytes: int
    checks: int
    reactions: int
    """How often it has made room."""


class MemoryMonitor:
    """Compares what the process occupies with its ceiling, at every :meth:`check`.

    Above the threshold the level is ``elevated`` and room is made. If that was not enough it is ``critical``, and no
    plugin is admitted. It is ``nominal`` again once usage is a sixteenth below the threshold, and not before, so that a
    process at the threshold does not go to and fro.

    :param usage: what the process occupies now, in bytes.
    :param changed: called after a change of level, with the level, usage in bytes and a reason in words.
    :param resized: called with the ceiling in force when a limit from outside has changed it.
    """

    def __init__(
        self,
        settings: MemorySettings,
        ceiling: Ceiling,
        usage: Callable[[], int],
        relief: Relief,
        changed: Callable[[PressureLevel, int, str], None],
        resized: Callable[[int], None],
    ) -> None:
        self._settings = settings
        self._ceiling = ceiling
        self._usage = usage
        self._relief = relief
        self._changed = changed
        self._resized = resized
        # An observer that a check tells of a change may look as well.
        self._alone = Alone()
        self._level: PressureLevel = "nominal"
        self._used = usage()
        self._checks = self._reactions = 0
        self._in_vain: tuple[int, int] | None = None
        """Check and usage after a reaction that did not help."""

    @property
    def level(self) -> PressureLevel:
        """By the last check."""
        return self._level

    @property
    def ceiling_bytes(self) -> int:
        """In force, by the last check."""
        nbytes = self._ceiling.nbytes
        assert nbytes is not None  # a monitor has one
        return nbytes

    @property
    def threshold_bytes(self) -> int:
        """Above it, room is made."""
        return int(self.ceiling_bytes * self._settings.pressure_threshold)

    @property
    def relief_bytes(self) -> int:
        """From here down all is well again."""
        return int(self.threshold_bytes * (1 - RELIEF_SHARE))

    def check(self, *, wait_seconds: float = 0) -> PressureLevel:
        """Look at limit and usage, do what has to be done, and tell what came of it.

        :param wait_seconds: for a check of another thread that is under way; while there is one, this one does nothing.
        """
        with self._alone.taken(wait_seconds=wait_seconds) as ours:
            if ours:
                self._look()
        return self._level

    def refusal(self, *, dry_run: bool = False) -> str | None:
        """Why nobody may come in now; None if somebody may.

        It is looked at again before anybody is sent away, unless somebody only wants to know.
        """
        if self._level == "critical" and not dry_run:
            self.check()
        return f"memory pressure is critical: {self._in_words()}" if self._level == "critical" else None

    def statistics(self) -> MemoryStatistics:
        """Where it stands, and what was done."""
        limit = self._ceiling.limit
        return MemoryStatistics(
            level=self._level,
            usage_bytes=self._used,
            ceiling_bytes=self.ceiling_bytes,
            own_ceiling_bytes=self._ceiling.own_bytes,
            outside_limit_bytes=limit.nbytes if limit else None,
            outside_limit_source=limit.source if limit else None,
            threshold_bytes=self.threshold_bytes,
            checks=self._checks,
            reactions=self._reactions,
        )

    def _look(self) -> None:
        self._checks += 1
        self._read_ceiling()
        self._used = self._usage()
        if self._used > self.threshold_bytes:
            self._rise("elevated")
            self._react()
        else:
            self._in_vain = None
        if self._used <= self.relief_bytes:
            self._fall()

    def _read_ceiling(self) -> None:
        before = self.ceiling_bytes
        self._ceiling.read()
        if self.ceiling_bytes != before:
            self._resized(self.ceiling_bytes)

    def _react(self) -> None:
        if self._was_in_vain():
            return
        target = self.relief_bytes
        reaction = self._relief.make_room("pressure", lambda: max(0, self._usage() - target), level=self._level)
        self._used = self._usage()
        self._reactions += reaction is not None
        if reaction is not None and self._used > self.threshold_bytes:
            self._in_vain = self._checks, self._used
            self._rise("critical")

    def _was_in_vain(self) -> bool:
        """Whether a reaction that did not help would be repeated: not for a while, unless usage has grown since."""
        if self._in_vain is None:
            return False
        check, used = self._in_vain
        grown = self._used - used > self.ceiling_bytes * _AGAIN_SHARE
        return not grown and self._checks - check < _AGAIN_CHECKS

    def _rise(self, level: PressureLevel) -> None:
        if self._level != "critical" and self._level != level:
            self._go(level)

    def _fall(self) -> None:
        if self._level != "nominal":
            self._go("nominal")

    def _go(self, level: PressureLevel) -> None:
        self._level = level
        self._changed(level, self._used, self._in_words())

    def _in_words(self) -> str:
        ceiling = self.ceiling_bytes
        return (
            f"{format_bytes(self._used)} of {format_bytes(ceiling)} are in use ({self._used / ceiling:.0%}), "
            f"and the threshold is {self._settings.pressure_threshold:.0%}"
        )
