"""Pressure, and giving back, as a whole: what the driver offers to other plugins, put together."""

from __future__ import annotations

import logging
import os
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from weighbridge_hookspecs import AdmissionRequest, Deferred, Fact, Refused, StopToken
from weighbridge_hookspecs.records import PressureLevel

from .buddy import Offer, is_reporting, read_blocks
from .gauge import Gauge, MeminfoFile, MemorySource
from .groups import missing_in, own_group
from .handlers import Handler, Handlers, Registration
from .kept import KeptFile
from .levels.choose import find_levels
from .levels.level import LevelSource
from .percpu import PerCpuLists
from .regulator import PressureStatistics, Regulator
from .release import Releaser, ReleaseReceipt, Standing
from .settings import PressureSettings
from .slabs import Charge, SlabCache
from .sources.choose import Choice, choose_sources
from .watcher import Watcher
from .words import in_words


class PressureControl:
    """Watches the machine, has memory released when it is short, and says what came of it.

    :param relay: asked after all handlers; the host's plugins are behind it.
    :param charge: puts caches on the driver's own account, if nobody else's is given.
    """

    def __init__(
        self,
        settings: PressureSettings,
        *,
        log: logging.Logger,
        relay: Callable[[int, PressureLevel], int] | None = None,
        charge: Charge | None = None,
        root: Path = Path("/"),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._settings = settings
        self._log = log
        self._root = root
        self._environ = os.environ if environ is None else environ
        self._relay = relay
        self._charge = charge
        self._levels: list[LevelSource] = find_levels(root, may_write=settings.ask_device)
        self._gauge = Gauge(_memory(root), self._levels, PerCpuLists(root))
        self._handlers = Handlers(log, None if relay is None else self._ask_relay)
        self._releaser = Releaser(self._handlers, partial(_look, self._gauge, root, is_reporting(root)))
        group = own_group(root, 2)
        self._regulator = Regulator(
            settings,
            self._gauge.read,
            self._releaser,
            look_closely=self._gauge.read_closely,
            missing_in_group=(lambda: 0) if group is None else partial(missing_in, group),
        )
        self._choice = Choice()
        self._watcher: Watcher | None = None

    # --- for other plugins ------------------------------------------------------------------------------------------

    def register_pressure_handler(self, handler: Handler) -> Registration:
        """Call `handler` with the bytes to release when memory is short; it gives those that it believes it released.

        It runs in the thread of the driver. Keep the lease: with it goes the handler.

        :raises TypeError: if it cannot be called.
        """
        return self._handlers.register(handler)

    def slab_cache(self, max_bytes: int, *, charge: Charge | None = None) -> SlabCache:
        """A cache that is asked for memory by itself, for as long as somebody holds it.

        :param max_bytes: rounded down to whole slabs of 2 MiB.
        :param charge: puts its memory on an account: ``context.charge`` of whoever caches. None: on the driver's own.
        :raises ConfigurationError: if not even one slab fits.
        """
        cache = SlabCache(max_bytes, charge=charge or self._charge)
        cache.lease = self._handlers.register(_Trimmer(cache))
        return cache

    def release_memory(self, nbytes: int, *, reason: str = "asked for") -> ReleaseReceipt | None:
        """Have everybody release memory until `nbytes` bytes are believed to be; what really came of it.

        None while another release is under way.

        :raises ValueError: if `nbytes` is no whole number from 0 up.
        """
        return self._releaser.release(_checked(nbytes), reason=reason)

    def report_memory_released(self, nbytes: int, *, before: Standing | None = None) -> ReleaseReceipt | None:
        """Say that `nbytes` bytes were released. Garbage is collected, the C library trimmed, and then measured.

        :param before: from :meth:`look`, before anything was released.
        :returns: None while a release is under way.
        :raises ValueError: if `nbytes` is no whole number from 0 up.
        """
        return self._releaser.report(_checked(nbytes), before=before)

    def look(self) -> Standing:
        """How the machine stands now."""
        return self._releaser.look()

    def bytes_to_release(self) -> int | None:
        """What is missing by the last look; None if that cannot be known."""
        return self._regulator.statistics().missing_bytes

    def receipts(self) -> tuple[ReleaseReceipt, ...]:
        """The last releases that the driver made by itself, the latest at the end."""
        return self._regulator.receipts

    def statistics(self) -> PressureStatistics:
        """Where the machine stands, and what was done."""
        return self._regulator.statistics()

    # --- for the plugin ---------------------------------------------------------------------------------------------

    def open(self, *, may_have_balloon: bool = True) -> bool:
        """Open what there is to listen to; whether there is anything to watch.

        :param may_have_balloon: false where it is known that there is none, so that nobody looks at it.
        """
        if self._settings.notify:
            self._choice = choose_sources(self._root, self._environ)
        polls = self._settings.poll_seconds > 0 and may_have_balloon
        self._watcher = Watcher(
            self._choice.sources,
            hear=self._regulator.hear,
            tick=self._regulator.watch if polls else None,
            log=self._log,
        )
        return self._watcher.has_work

    def run(self, stop: StopToken) -> None:
        """Watch until `stop` is set, or :meth:`close` was called."""
        if self._watcher is not None:
            self._watcher.run(stop)
        self._gauge.close()

    def close(self) -> None:
        """Stop watching, and close every file. Who looks all the same opens them again."""
        if self._watcher is not None:
            self._watcher.wake()
        self._gauge.close()

    def release_own(self, nbytes: int) -> int:
        """Have the handlers release memory, and not the host, which asks here; the bytes that they believe."""
        efforts = self._handlers.ask(lambda believed: max(0, nbytes - believed), without_last=True)
        return sum(effort.believed_bytes or 0 for effort in efforts)

    def verdict(self, request: AdmissionRequest) -> Refused | Deferred | None:
        """Whether somebody may come in; None: there is nothing against it."""
        return self._regulator.verdict(request)

    def facts(self) -> Iterator[Fact]:
        """What there is to listen to and to look at, and what lies ready."""
        standing = self.look()
        names = self._watcher.sources if self._watcher is not None else ()
        yield Fact(
            subject="memory pressure",
            finding=", ".join(names) or "nobody tells",
            evidence="; ".join(self._choice.notes) or "opened",
        )
        yield Fact(
            subject="balloon size",
            finding=_size(standing.figures.balloon_bytes),
            evidence=self._size_places(standing.figures.balloon_bytes),
        )
        yield Fact(
            subject="balloon target",
            finding=_size(standing.figures.wanted_bytes, " more"),
            evidence=self._target_places(),
        )
        yield _offer_fact(standing.offer)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _ask_relay(self, nbytes: int) -> int:
        if self._relay is None:
            return 0
        level = self._regulator.level
        return self._relay(nbytes, "elevated" if level == "nominal" else level)

    def _size_places(self, found: int | None) -> str:
        if found is None:
            return "neither the kernel nor a library of the hypervisor shows it"
        return ", ".join(["/proc/meminfo", *(level.name for level in self._levels)])

    def _target_places(self) -> str:
        places = ", ".join(level.name for level in self._levels if level.sees_target)
        return places or "nothing shows it unasked; with ask_device = true, a virtio device on the PCI bus is asked"


class _Trimmer:
    """A handler that trims a cache, and does not keep it."""

    def __init__(self, cache: SlabCache) -> None:
        self._cache = weakref.ref(cache)

    def __call__(self, nbytes: int) -> int:
        cache = self._cache()
        return 0 if cache is None else cache.trim(nbytes)


def _memory(root: Path) -> MemorySource:
    if sys.platform == "win32" and root == Path("/"):
        from .windows import WindowsMemory

        return WindowsMemory()
    return MeminfoFile(KeptFile(root / "proc/meminfo"))


def _look(gauge: Gauge, root: Path, is_reported: bool | None) -> Standing:
    return Standing(figures=gauge.read_closely(), offer=read_blocks(root, is_reported=is_reported))


def _size(nbytes: int | None, word: str = "") -> str | None:
    return None if nbytes is None else f"{in_words(nbytes)}{word}"


def _offer_fact(offer: Offer) -> Fact:
    evidence = f"blocks of order {offer.order} and above in /proc/buddyinfo"
    if offer.order is None:
        evidence = "neither page_reporting_order nor the size of a huge page is shown"
    return Fact(subject="free in large blocks", finding=_size(offer.reportable_bytes), evidence=evidence)


def _checked(nbytes: int) -> int:
    if not isinstance(nbytes, int) or isinstance(nbytes, bool) or nbytes < 0:
        raise ValueError(f"{nbytes!r} is nothing to release: give a number of bytes from 0 up")
    return nbytes
