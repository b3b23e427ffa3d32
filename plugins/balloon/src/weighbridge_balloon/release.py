"""Releasing memory, and what really came of it: asked for, freed in this machine, ready for the hypervisor."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import Final

import attrs
from weighbridge_hookspecs.records import PressureLevel

from .buddy import DUE_SECONDS, Offer
from .gauge import Figures
from .handlers import Effort, Handlers
from .pages import trim


@attrs.frozen(kw_only=True)
class Standing:
    """How the machine stood at one moment."""

    figures: Figures
    offer: Offer


@attrs.frozen(kw_only=True)
class ReleaseReceipt:
    """One release. Three figures stand side by side: what was asked for, and what two others got.

    All are of the whole machine, so whatever else happened meanwhile is in them. What the balloon took between the two
    looks counts as freed, and as with the hypervisor.
    """

    reason: str
    level: PressureLevel
    asked_bytes: int
    missing_bytes: int
    """Of those, what was still missing at the end."""
    efforts: tuple[Effort, ...]
    """What each handler believes."""
    collected: bool
    """Whether garbage was collected as well."""
    trimmed: bool | None
    """Whether the C library gave something back; None if it was not asked, or cannot be."""
    before: Standing
    after: Standing
    seconds: float

    @property
    def believed_bytes(self) -> int:
        """What the handlers believe they released, all of them."""
        return sum(effort.believed_bytes or 0 for effort in self.efforts)

    @property
    def freed_bytes(self) -> int | None:
        """By how much the machine's free memory grew; below 0 if it shrank, None if it is not shown."""
        before, after = self.before.figures, self.after.figures
        return _grown(before.free_bytes, after.free_bytes, self._taken_bytes)

    @property
    def available_bytes(self) -> int | None:
        """By how much the memory grew that programs could get."""
        before, after = self.before.figures, self.after.figures
        return _grown(before.available_bytes, after.available_bytes, self._taken_bytes)

    @property
    def hypervisor_bytes(self) -> int | None:
        """What the hypervisor got, or can have without further ado; None if that cannot be known.

        Where free pages are reported to it: by how much the blocks grew that are large enough, and the balloon. They
        get there within :data:`~weighbridge_balloon.buddy.DUE_SECONDS`. Elsewhere: by how much the balloon grew.
        """
        if self.before.offer.is_reported is None:
            return None
        if not self.before.offer.is_reported:
            return None if self.after.figures.balloon_bytes is None else self._taken_bytes
        return _grown(self.before.offer.reportable_bytes, self.after.offer.reportable_bytes, self._taken_bytes)

    @property
    def pending_bytes(self) -> int | None:
        """Freed in this machine, and not to be had by the hypervisor: in pieces that are too small as yet."""
        freed, offered = self.freed_bytes, self.hypervisor_bytes
        return None if freed is None or offered is None else max(0, freed - offered)

    @property
    def _taken_bytes(self) -> int:
        """By how much the balloon grew between the two looks."""
        before, after = self.before.figures.balloon_bytes, self.after.figures.balloon_bytes
        return 0 if before is None or after is None else after - before


def _grown(before: int | None, after: int | None, taken: int) -> int | None:
    return None if before is None or after is None else after - before + taken


class Releaser:
    """Asks the handlers, then collects, then trims; one release at a time.

    :param look: how the machine stands now.
    """

    def __init__(self, handlers: Handlers, look: Callable[[], Standing]) -> None:
        self._handlers: Final = handlers
        self._look = look
        self._turn = threading.Lock()

    def release(
        self,
        nbytes: int,
        *,
        missing: Callable[[int], int] | None = None,
        level: PressureLevel = "elevated",
        reason: str = "asked for",
    ) -> ReleaseReceipt | None:
        """Release memory until nothing is missing; None while another release is under way.

        The collector runs only if the handlers gave too little: it stops every thread for as long as it takes.

        :param missing: given the bytes that were believed to be released so far, how many are missing still; if it is
            None, what is left of `nbytes`.
        """
        left = missing or (lambda believed: max(0, nbytes - believed))
        return self._act(nbytes, left, level, reason, None)

    def report(self, nbytes: int, *, before: Standing | None = None) -> ReleaseReceipt | None:
        """Measure what came of memory that somebody else released, and let go of what only the collector and the C
        library still hold; None while a release is under way.

        :param nbytes: what is believed to have been released.
        :param before: how the machine stood before that, from :meth:`look`; None: nobody knows, and the receipt has
        only
            what collector and C library gave.
        """
        return self._act(nbytes, None, "nominal", "reported", before)

    def look(self) -> Standing:
        """How the machine stands now."""
        return self._look()

    def _act(
        self,
        nbytes: int,
        left: Callable[[int], int] | None,
        level: PressureLevel,
        reason: str,
        before: Standing | None,
    ) -> ReleaseReceipt | None:
        if not self._turn.acquire(blocking=False):
            return None
        try:
            began, before = time.perf_counter(), before or self._look()
            efforts = () if left is None else self._handlers.ask(left)
            believed = sum(effort.believed_bytes or 0 for effort in efforts)
            collected = left is None or left(believed) > 0
            if collected:
                gc.collect()
            trimmed = trim() if collected or believed else None
            return ReleaseReceipt(
                reason=reason,
                level=level,
                asked_bytes=nbytes,
                missing_bytes=0 if left is None else max(0, left(believed)),
                efforts=efforts,
                collected=collected,
                trimmed=trimmed,
                before=before,
                after=self._look(),
                seconds=time.perf_counter() - began,
            )
        finally:
            self._turn.release()


def wait_for_offer(
    look: Callable[[], Standing], nbytes: int, *, seconds: float = DUE_SECONDS, every: float = 0.5
) -> Standing:
    """Wait until blocks of `nbytes` in all are ready for the hypervisor, or for so many seconds; how it stands then.

    Small pieces join to larger ones only as their neighbours become free, so a release may be ready a little later.
    """
    end = time.monotonic() + seconds
    standing = look()
    while (standing.offer.reportable_bytes or 0) < nbytes and time.monotonic() < end:
        time.sleep(every)
        standing = look()
    return standing
