"""The one thread: it waits for whoever speaks first, a source of pressure or the clock."""

from __future__ import annotations

import logging
import os
import select
import traceback
from collections.abc import Callable, Iterable
from typing import Final, get_args

from weighbridge_hookspecs import StopToken
from weighbridge_hookspecs.records import PressureLevel

from .sources.source import Pressure, Source, SourceGone

_BREATH_SECONDS: Final = 0.1
_LONGEST_SECONDS: Final = 1.0
_LEVELS: Final = get_args(PressureLevel)


class Watcher:
    """Listens to sources, and looks at the machine in between.

    After an event it takes a breath before it listens again: a source may have hundreds of them a second, and the next
    look has them all.

    :param hear: called with what a source said.
    :param tick: looks at the machine, and gives the seconds until the next look; None: nobody looks.
    """

    def __init__(
        self,
        sources: Iterable[Source],
        *,
        hear: Callable[[Pressure], object],
        tick: Callable[[], float] | None,
        log: logging.Logger,
    ) -> None:
        self._sources = list(sources)
        self._hear = hear
        self._tick = tick
        self._log = log
        self._is_woken = False
        self._pipe: tuple[int, int] | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of those that are listened to."""
        return tuple(source.name for source in self._sources)

    @property
    def has_work(self) -> bool:
        """Whether there is anything to wait for."""
        return bool(self._sources) or self._tick is not None

    def run(self, stop: StopToken) -> None:
        """Watch until `stop` is set, or :meth:`wake` was called, or nothing is left to watch; then close everything."""
        try:
            seconds = 0.0
            while self.has_work and not (stop.is_set() or self._is_woken):
                heard = self._listen(seconds, stop)
                seconds = self._look()
                if heard:
                    stop.wait(_BREATH_SECONDS)
        finally:
            self.close()

    def wake(self) -> None:
        """End :meth:`run` soon, from another thread."""
        self._is_woken = True
        pipe = self._pipe
        if pipe is not None:
            os.write(pipe[1], b"\0")

    def close(self) -> None:
        """Close every source."""
        sources, self._sources = self._sources, []
        for source in sources:
            source.close()
        pipe, self._pipe = self._pipe, None
        for end in pipe or ():
            os.close(end)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _listen(self, seconds: float, stop: StopToken) -> bool:
        """Wait, and tell the worst of what was said; whether anything was said at all.

        A group that is out of memory is short of it as well: one cause, two sources.
        """
        waiting = {number: source for source in self._sources if (number := source.fileno()) is not None}
        if not waiting:
            stop.wait(seconds)
            ready = [(source, 0) for source in self._sources]
        else:
            ready = self._poll(waiting, seconds)
            ready += [(source, 0) for source in self._sources if source.fileno() is None]
        said = [pressure for source, events in ready if (pressure := self._ask(source, events)) is not None]
        if said:
            worst = max(said, key=lambda pressure: _LEVELS.index(pressure.level))
            self._guard(lambda: self._hear(worst))
        return bool(said)

    def _poll(self, waiting: dict[int, Source], seconds: float) -> list[tuple[Source, int]]:
        poller = select.poll()
        poller.register(self._wake_end(), select.POLLIN)
        for number, source in waiting.items():
            poller.register(number, source.mask)
        return [(waiting[number], events) for number, events in poller.poll(seconds * 1000) if number in waiting]

    def _wake_end(self) -> int:
        if self._pipe is None:
            self._pipe = os.pipe()
            if self._is_woken:  # it came before there was a pipe to tell it through
                os.write(self._pipe[1], b"\0")
        return self._pipe[0]

    def _ask(self, source: Source, events: int) -> Pressure | None:
        """What a source says; one that will say nothing any more is dropped."""
        try:
            return source.look(events)
        except SourceGone as gone:
            self._log.warning("a source of pressure is gone: %s", gone)
            self._sources.remove(source)
            source.close()
            return None

    def _look(self) -> float:
        """The seconds until the next look. An error must not be the end of watching."""
        tick = self._tick
        if tick is None:
            return _LONGEST_SECONDS
        seconds: list[float] = []
        self._guard(lambda: seconds.append(tick()))
        return min(max(seconds[0], 0.0), _LONGEST_SECONDS) if seconds else _LONGEST_SECONDS

    def _guard(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception:
            # As text: an exception holds its frames, and with them what a plugin left.
            self._log.error("a reaction to pressure failed:\n%s", traceback.format_exc())
