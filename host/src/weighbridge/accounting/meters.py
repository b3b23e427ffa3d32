"""Meters: what it costs to know how many bytes Python holds.

Tracing every allocation slows a program 6 to 10 times (``docs/accounting.md``), so by default it is on only at the
gate, while a plugin is being loaded.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

import attrs
from weighbridge_hookspecs import ConfigurationError

from .attribution import Attribution, attribute


@attrs.frozen(kw_only=True)
class Reading:
    """One look at the scales."""

    traced_bytes: int | None
    """Bytes that tracemalloc knows of; None while it is off."""
    blocks: int
    """Blocks that Python's allocator has handed out, about one for each object."""
    seconds: float
    """``time.perf_counter``, to tell how far two readings are apart."""


class Meter(Protocol):
    """One way of measuring."""

    name: str
    """Its name on the command line."""

    def open(self) -> None:
        """Start, if it measures all the time."""

    def close(self) -> None:
        """Stop, and leave tracing as it was found."""

    def gate(self) -> AbstractContextManager[None]:
        """A context in which one plugin is being loaded."""

    def attribution(self, owners: Mapping[str, str]) -> Attribution | None:
        """Bytes held now, by owner of the file in `owners` (file name to owner); None if it does not know."""


def read() -> Reading:
    """Look at the scales."""
    return Reading(traced_bytes=traced_bytes(), blocks=sys.getallocatedblocks(), seconds=time.perf_counter())


def traced_bytes() -> int | None:
    """Bytes that tracemalloc has on its books; None while it is off."""
    tracemalloc = sys.modules.get("tracemalloc")
    if tracemalloc is None or not tracemalloc.is_tracing():
        return None
    return int(tracemalloc.get_traced_memory()[0])


class ProcessMeter:
    """Traces nothing: resident bytes, blocks and seconds only. Free."""

    name = "process"

    def open(self) -> None:
        """Nothing to start."""

    def close(self) -> None:
        """Nothing to stop."""

    @contextmanager
    def gate(self) -> Iterator[None]:
        """Nothing to switch."""
        yield

    def attribution(self, owners: Mapping[str, str]) -> Attribution | None:
        """Not known."""
        return None


class GateMeter(ProcessMeter):
    """Traces while a plugin is being loaded, and costs nothing afterwards."""

    name = "gate"

    @contextmanager
    def gate(self) -> Iterator[None]:
        """Tracing is on inside; it stays on if the application had it on."""
        import tracemalloc

        ours = not tracemalloc.is_tracing()
        if ours:
            tracemalloc.start(1)
        try:
            yield
        finally:
            if ours:
                tracemalloc.stop()


class TraceMeter(ProcessMeter):
    """Traces all the time, so that an account is exact at any moment. Slow: for finding out, not for production."""

    name = "trace"

    def __init__(self, frames: int = 25) -> None:
        self.frames: Final = frames
        self._ours = False

    def open(self) -> None:
        """Start tracing; tracing that is on already is left alone, with as many frames as it was given."""
        import tracemalloc

        self._ours = not tracemalloc.is_tracing()
        if self._ours:
            tracemalloc.start(self.frames)

    def close(self) -> None:
        """Stop tracing, if this meter started it."""
        import tracemalloc

        if self._ours:
            tracemalloc.stop()
            self._ours = False

    def attribution(self, owners: Mapping[str, str]) -> Attribution | None:
        """Walk every traced block; takes about a second per million. None if somebody switched tracing off."""
        return None if traced_bytes() is None else attribute(owners)


METERS: Final[Mapping[str, Callable[[], Meter]]] = {
    "process": ProcessMeter,
    "gate": GateMeter,
    "trace": TraceMeter,
}


def make_meter(name: str) -> Meter:
    """The meter of that name.

    :raises ConfigurationError: if there is none.
    """
    if name not in METERS:
        raise ConfigurationError(f"no meter is called {name!r}", advice=f"Take one of: {', '.join(METERS)}")
    return METERS[name]()
