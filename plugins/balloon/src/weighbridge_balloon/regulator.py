"""What follows from figures and events: how much is to be released, when to ask again, and who may come in."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

import attrs
from weighbridge_hookspecs import AdmissionRequest, Deferred, Refused
from weighbridge_hookspecs.records import PressureLevel

from .gauge import Figures
from .need import bytes_to_release, default_reserve
from .pace import Pace
from .release import Releaser, ReleaseReceipt
from .settings import PressureSettings
from .sources.source import Pressure
from .words import in_words

KEPT_RECEIPTS: Final = 16
_HOLD_SECONDS: Final = 4.0
"""So long an event counts. A source of the kernel speaks once in 2 s at most."""
_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 30.0
_SOONER: Final = 4
_IN_VAIN: Final = 16
"""A release that gave less than this part of what was asked for was in vain."""


@attrs.frozen(kw_only=True)
class PressureStatistics:
    """Where the machine stands by the last look, and what was done so far."""

    level: PressureLevel
    figures: Figures
    reserve_bytes: int
    missing_bytes: int | None
    """What would have to be released; None if that cannot be known."""
    looks: int
    events: int
    """What sources said."""
    releases: int
    last_event: Pressure | None
    last_release: ReleaseReceipt | None


class Regulator:
    """Looks at the machine, hears of pressure, and releases what is missing. Thread-safe.

    A release that gives next to nothing is not repeated at once: first after a second, then after twice as long each
    time, up to half a minute.

    :param look: the figures now, quickly.
    :param look_closely: the figures now, exactly; asked when something seems to be missing. None: `look` is exact.
    :param missing_in_group: bytes that the process's own control group lacks; 0 if nothing limits it.
    :param clock: seconds; never goes back.
    """

    def __init__(
        self,
        settings: PressureSettings,
        look: Callable[[], Figures],
        releaser: Releaser,
        *,
        look_closely: Callable[[], Figures] | None = None,
        missing_in_group: Callable[[], int] = lambda: 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._look = look
        self._look_closely = look_closely or look
        self._releaser = releaser
        self._missing_in_group = missing_in_group
        self._clock = clock
        self._lock = threading.Lock()
        self._pace = Pace()
        self._figures = look()
        self._pace.note(clock(), self._figures.balloon_bytes)
        self.reserve_bytes: Final = (
            default_reserve(self._figures) if settings.reserve_bytes is None else settings.reserve_bytes
        )
        self._receipts: deque[ReleaseReceipt] = deque(maxlen=KEPT_RECEIPTS)
        self._event: Pressure | None = None
        self._event_ends = self._not_before = -float("inf")
        self._pause = _PAUSE_SECONDS
        self._looks = self._events = self._releases = 0

    @property
    def receipts(self) -> tuple[ReleaseReceipt, ...]:
        """The last releases, the latest at the end."""
        return tuple(self._receipts)

    @property
    def level(self) -> PressureLevel:
        """By the last look and the last event."""
        missing = self._missing()
        if missing:
            return "critical" if self._is_nearly_out() else "elevated"
        return self._event.level if self._event is not None and self._is_pressed() else "nominal"

    def tick(self) -> ReleaseReceipt | None:
        """Look, and release what is missing. What came of it; None if there was nothing to do."""
        with self._lock:
            self._looks += 1
            self._see()
            missing, before = self._missing(), self._figures
        if not missing:
            self._recover()
            return None
        reason = f"{in_words(missing)} are missing: {self.in_words()}"
        return self._release(missing, partial(self._still_missing, missing, before), reason)

    def watch(self) -> float:
        """Look, release what is missing, and say in how many seconds to look again: sooner while the balloon moves."""
        self.tick()
        seconds = self._settings.poll_seconds
        return seconds / _SOONER if self._pace.growth or self._missing() else seconds

    def hear(self, pressure: Pressure) -> ReleaseReceipt | None:
        """Release what figures say, or a step if they say that nothing is missing."""
        with self._lock:
            self._events += 1
            self._event, self._event_ends = pressure, self._clock() + _HOLD_SECONDS
            self._see()
            nbytes = max(self._missing() or 0, self._missing_in_group(), self._settings.step_bytes)
        return self._release(nbytes, partial(self._left_of, nbytes), f"{pressure.source}: {pressure.evidence}")

    def verdict(self, request: AdmissionRequest) -> Refused | Deferred | None:
        """Whether somebody may come in; None: there is nothing against it. Looks anew, and releases nothing."""
        with self._lock:
            self._see()
        if self.level == "nominal":
            return None
        reason = f"memory of the machine is short: {self.in_words()}"
        if request.defer:
            return Deferred(reason=reason)
        available = self._figures.available_bytes
        spare = None if available is None else max(0, available - self.reserve_bytes - self._wanted())
        return Refused(
            reason=reason,
            needs_bytes=request.needs_bytes,
            headroom_bytes=spare,
            advice="Try again when the pressure has gone",
        )

    def statistics(self) -> PressureStatistics:
        """Where it stands, and what was done."""
        return PressureStatistics(
            level=self.level,
            figures=self._figures,
            reserve_bytes=self.reserve_bytes,
            missing_bytes=self._missing(),
            looks=self._looks,
            events=self._events,
            releases=self._releases,
            last_event=self._event,
            last_release=self._receipts[-1] if self._receipts else None,
        )

    def in_words(self) -> str:
        """The figures by the last look, and the last event while it counts."""
        figures = self._figures
        parts = [f"{in_words(figures.available_bytes)} are available, {in_words(self.reserve_bytes)} are to stay so"]
        if figures.balloon_bytes is not None:
            parts.append(f"the balloon holds {in_words(figures.balloon_bytes)}")
        if figures.wanted_bytes is not None:
            parts.append(f"the hypervisor wants {in_words(figures.wanted_bytes)} more")
        if self._event is not None and self._is_pressed():
            parts.append(f"{self._event.source}: {self._event.evidence}")
        return "; ".join(parts)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _see(self) -> None:
        self._figures = self._look()
        self._pace.note(self._clock(), self._figures.balloon_bytes)
        if self._missing():
            self._figures = self._look_closely()

    def _missing(self) -> int | None:
        return bytes_to_release(
            self._figures,
            reserve=self.reserve_bytes,
            growth=self._pace.growth,
            horizon=self._settings.horizon_seconds,
            baseline=self._pace.baseline,
        )

    def _wanted(self) -> int:
        return max(0, self._figures.wanted_bytes or 0)

    def _is_pressed(self) -> bool:
        return self._clock() < self._event_ends

    def _is_nearly_out(self) -> bool:
        available = self._figures.available_bytes
        return available is not None and available < self.reserve_bytes // 2

    def _still_missing(self, nbytes: int, before: Figures, believed: int) -> int:
        """What figures say now: what was believed is in them, or was not true.

        No more than what is left of `nbytes`: a balloon that goes on growing is for the next look, or each release
        would ask everybody, and come too late.
        """
        with self._lock:
            self._figures = self._look_closely()
            freed = _freed(before, self._figures)
            left = self._left_of(nbytes, believed if freed is None else freed)
            return min(self._missing() or 0, left)

    def _left_of(self, nbytes: int, believed: int) -> int:
        return max(0, nbytes - believed)

    def _release(self, nbytes: int, missing: Callable[[int], int], reason: str) -> ReleaseReceipt | None:
        if self._clock() < self._not_before:
            return None
        receipt = self._releaser.release(nbytes, missing=missing, level=self.level, reason=reason)
        if receipt is None:
            return None
        self._releases += 1
        self._receipts.append(receipt)
        gained = receipt.believed_bytes if receipt.available_bytes is None else receipt.available_bytes
        if gained < nbytes // _IN_VAIN:
            self._not_before = self._clock() + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        else:
            self._recover()
        return receipt

    def _recover(self) -> None:
        self._pause = _PAUSE_SECONDS


def _freed(before: Figures, now: Figures) -> int | None:
    """Bytes that became available meanwhile, those among them that the balloon took at once; None if nobody knows."""
    if before.available_bytes is None or now.available_bytes is None:
        return None
    taken = (now.balloon_bytes or 0) - (before.balloon_bytes or 0)
    return max(0, now.available_bytes - before.available_bytes + taken)
