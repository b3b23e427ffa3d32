"""The thread that watches: who is heard, when it looks, and how it ends."""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from weighbridge_balloon.sources.environment import StreamSource
from weighbridge_balloon.sources.source import Pressure, Source, SourceGone
from weighbridge_balloon.watcher import Watcher

LOG = logging.getLogger("balloon.test")
LONG = 60


class Passing:
    """A source without a descriptor, looked at in passing."""

    def __init__(self, *says: Pressure | SourceGone | None) -> None:
        self.says = list(says)
        self.is_closed = False

    @property
    def name(self) -> str:
        return "passing"

    def fileno(self) -> None:
        return None

    @property
    def mask(self) -> int:
        return 0

    def look(self, events: int) -> Pressure | None:
        said = self.says.pop(0) if self.says else None
        if isinstance(said, SourceGone):
            raise said
        return said

    def close(self) -> None:
        self.is_closed = True


class Fifo:
    """A pipe: its source, and the end that speaks."""

    def __init__(self) -> None:
        reading, self.writing = os.pipe()
        os.set_blocking(reading, False)
        self.source = StreamSource("pipe", reading)

    def say(self, what: bytes = b"x") -> None:
        os.write(self.writing, what)

    def close(self) -> None:
        if self.writing >= 0:
            os.close(self.writing)
        self.writing = -1


@pytest.fixture
def fifo() -> Iterator[Fifo]:
    made = Fifo()
    yield made
    made.close()
    made.source.close()


class Running:
    """A watcher in a thread of its own."""

    def __init__(self, *sources: Source, tick: Callable[[], float] | None = None) -> None:
        self.heard: list[Pressure] = []
        self.woken = threading.Event()
        self.stop = threading.Event()
        self.watcher = Watcher(sources, hear=self._hear, tick=tick, log=LOG)
        self.thread = threading.Thread(target=self.watcher.run, args=(self.stop,))
        self.thread.start()

    def _hear(self, pressure: Pressure) -> None:
        self.heard.append(pressure)
        self.woken.set()

    def join(self) -> bool:
        self.thread.join(LONG)
        return not self.thread.is_alive()


def test_source_that_speaks_is_heard(fifo: Fifo) -> None:
    """At once, while the thread waits."""
    running = Running(fifo.source)
    fifo.say()
    assert running.woken.wait(LONG)
    assert running.heard[0].evidence == "1 bytes came"
    running.watcher.wake()
    assert running.join()


def test_waking_ends_a_long_wait(fifo: Fifo) -> None:
    """Nobody has said anything, and everything is closed."""
    number = fifo.source.fileno()
    assert number is not None
    running = Running(fifo.source)
    running.watcher.wake()
    assert running.join()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(number)


def test_waking_before_the_start_is_not_lost(fifo: Fifo) -> None:
    """A plugin may be deactivated before its thread has begun."""
    watcher = Watcher([fifo.source], hear=print, tick=None, log=LOG)
    watcher.wake()
    watcher.run(threading.Event())
    assert watcher.sources == ()


def test_stopping_ends_it_without_a_word(fifo: Fifo) -> None:
    """The token alone is enough."""
    running = Running(fifo.source)
    running.stop.set()
    assert running.join()


def test_looks_go_on_without_sources() -> None:
    """As often as the last look said."""
    done = threading.Event()
    looks: list[int] = []

    def tick() -> float:
        looks.append(1)
        if len(looks) == 5:
            done.set()
        return 0.0

    running = Running(tick=tick)
    assert done.wait(LONG)
    running.stop.set()
    assert running.join()


def test_look_that_fails_is_not_the_last(caplog: pytest.LogCaptureFixture) -> None:
    """It is in the log, as text."""
    done = threading.Event()
    looks: list[int] = []

    def tick() -> float:
        looks.append(1)
        if len(looks) == 1:
            raise RuntimeError("no figures today")
        done.set()
        return 0.0

    running = Running(tick=tick)
    assert done.wait(LONG)
    running.watcher.wake()
    assert running.join()
    assert "no figures today" in caplog.text


def test_reaction_that_fails_is_not_the_last(caplog: pytest.LogCaptureFixture, fifo: Fifo) -> None:
    """The next event is heard all the same."""
    heard = threading.Semaphore(0)

    def hear(pressure: Pressure) -> None:
        heard.release()
        raise RuntimeError("no handler today")

    watcher = Watcher([fifo.source], hear=hear, tick=None, log=LOG)
    thread = threading.Thread(target=watcher.run, args=(threading.Event(),))
    thread.start()
    for _ in range(2):
        fifo.say()
        assert heard.acquire(timeout=LONG)
    watcher.wake()
    thread.join(LONG)
    assert "no handler today" in caplog.text


def test_source_that_is_gone_is_dropped(caplog: pytest.LogCaptureFixture, fifo: Fifo) -> None:
    """The others go on; when nothing is left to watch, the thread ends by itself."""
    running = Running(fifo.source)
    fifo.close()
    assert running.join()
    assert "a source of pressure is gone: pipe was closed" in caplog.text
    assert running.watcher.sources == ()


def test_removed_group_does_not_spin(fifo: Fifo) -> None:
    """An error on one descriptor drops that one, and another is still heard."""
    gone = Passing(SourceGone("group"))
    running = Running(gone, fifo.source)
    fifo.say()
    assert running.woken.wait(LONG)
    running.watcher.wake()
    assert running.join()
    assert gone.is_closed


def test_source_without_a_descriptor_is_looked_at_in_passing() -> None:
    """Whenever figures are."""
    said = Pressure(level="critical", source="passing", evidence="low")
    running = Running(Passing(None, None, said), tick=lambda: 0.0)
    assert running.woken.wait(LONG)
    running.watcher.wake()
    assert running.join()
    assert running.heard == [said]


def test_worst_of_what_is_said_at_once_is_heard() -> None:
    """Two levels of one group speak up together, and one release is enough."""
    said = [Pressure(level=level, source="group", evidence="x") for level in ("elevated", "critical", "nominal")]
    running = Running(*(Passing(one) for one in said), tick=lambda: 0.0)
    assert running.woken.wait(LONG)
    running.watcher.wake()
    assert running.join()
    assert [pressure.level for pressure in running.heard] == ["critical"]


def test_watcher_with_nothing_to_do_says_so() -> None:
    """It needs no thread, and would end at once."""
    watcher = Watcher([], hear=print, tick=None, log=LOG)
    assert not watcher.has_work
    watcher.run(threading.Event())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="there is no /proc")
def test_nothing_stays_open(fifo: Fifo) -> None:
    """Neither sources nor what wakes the thread."""
    before = len(os.listdir("/proc/self/fd"))
    running = Running(fifo.source)
    fifo.say()
    assert running.woken.wait(LONG)
    running.watcher.wake()
    assert running.join()
    assert len(os.listdir("/proc/self/fd")) == before - 1  # the end that was read from
    assert select.POLLIN
