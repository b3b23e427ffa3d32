"""The way from dirty to pristine that works on this machine, and how that is known."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable
from ctypes import memmove, memset
from typing import ClassVar, Final, Protocol

from .advice import AdviceReset, Advise, advise_dont_need
from .baseline import PAGE, Baseline, Run, Segment
from .copying import CopyReset
from .pagemap import DirtyPages
from .trial import find_fault

KEEP_BYTES: Final = 1 << 20
"""Bytes of a memory that stay resident at a reset; what was written to beyond is given back.

Zeros are written to 1 MiB in about 30 microseconds, and the next call that writes there saves 256 page faults, which
cost ten times as much. But a page that is kept is put back at each reset, whether or not the last call used it.
"""


MOST_READ_BYTES: Final = 64 << 20
"""Bytes that may have been read and never written to before they are given back at a reset.

They occupy nothing but tables of pages. But the kernel looks at each of them at each scan, for 5 nanoseconds and more:
4 GiB that were read once would cost 14 ms at every reset from then on.
"""


class Strategy(Protocol):
    """One way to reset a memory."""

    @property
    def name(self) -> str:
        """In one word."""

    @property
    def largest_bytes(self) -> int | None:
        """The largest memory for which it is cheaper than a fresh one; None if there is no such limit."""

    def reset(self, address: int, nbytes: int, baseline: Baseline) -> int:
        """Make the memory what the baseline says, and say how many bytes were put back or given back.

        :param address: of the memory, on a page.
        :param nbytes: its size; what the baseline has.
        """

    def close(self) -> None:
        """Let go of what it holds; twice is once."""


class PagemapReset:
    """Puts back the pages that were written to; beyond `keep_bytes` of zeros they are given back instead.

    Only pages of zeros are given back: they are zero in the image too, or there is none. What the baseline holds is
    copied, for a memory that was filled by copying would lose it.
    """

    name: ClassVar = "pagemap"
    largest_bytes: ClassVar[int | None] = None

    def __init__(self, pages: DirtyPages, advise: Advise | None, keep_bytes: int = KEEP_BYTES) -> None:
        self.pages: Final = pages
        self._advise = advise
        self._keep_bytes = sys.maxsize if advise is None else keep_bytes

    def reset(self, address: int, nbytes: int, baseline: Baseline) -> int:
        """See :meth:`Strategy.reset`."""
        room = self._keep_bytes
        restored = 0
        written, read = self.pages.scan(address, nbytes)
        for begin, end in written:
            restored += end - begin
            for start, stop, source in baseline.pieces(begin, end):
                size = stop - start
                if source:
                    memmove(address + start, source, size)
                elif size <= room:
                    memset(address + start, 0, size)
                else:
                    self._give_back(address + start, size, max(0, room - room % PAGE))
                room -= size
        if read and self._advise is not None and sum(end - begin for begin, end in read) > MOST_READ_BYTES:
            for begin, end in read:
                self._give_back(address + begin, end - begin, 0)
        return restored

    def _give_back(self, address: int, nbytes: int, kept: int) -> None:
        """Clear what is kept at the begin, and let the kernel have the rest."""
        memset(address, 0, kept)
        try:
            assert self._advise is not None
            self._advise(address + kept, nbytes - kept)
        except OSError:  # memory that is locked cannot be given back (madvise(2), EINVAL)
            memset(address + kept, 0, nbytes - kept)

    def close(self) -> None:
        """Close the descriptor."""
        self.pages.close()


class Resetter:
    """Resets memories in the way that was chosen for this machine. May be used from several threads at once.

    Close it, or use it in a ``with``.
    """

    def __init__(self, strategy: Strategy, evidence: str) -> None:
        self._strategy = strategy
        self.strategy: Final = strategy.name
        """``"pagemap"``, ``"madvise"`` or ``"copy"``."""
        self.evidence: Final = evidence
        """How that is known, and why not a better one, in words."""

    def reset(self, address: int, nbytes: int, baseline: Baseline) -> int:
        """Make the memory at `address` what the baseline says; nobody may use it meanwhile.

        :returns: bytes that were put back or given back.
        :raises ValueError: the baseline is of another size, as after a grow, which cannot be taken back
            (https://github.com/bytecodealliance/wasmtime/issues/9572); or `address` is not on a page.
        :raises OSError: the kernel refused. Then the memory is in no known state.
        """
        if nbytes != baseline.nbytes or address % PAGE:
            raise ValueError(f"A baseline of {baseline.nbytes:,} bytes is not for {nbytes:,} bytes at {address:#x}")
        return self._strategy.reset(address, nbytes, baseline)

    def is_worthwhile(self, nbytes: int) -> bool:
        """Whether to reset a memory of that size is cheaper than to make a fresh one."""
        return self._strategy.largest_bytes is None or nbytes <= self._strategy.largest_bytes

    def capture(self, address: int, nbytes: int, segments: Iterable[Segment] = ()) -> Baseline:
        """The baseline of a memory in which only its module's start has run: see :meth:`.Baseline.captured`."""
        return Baseline.captured(address, nbytes, segments, self.dirty_runs(address, nbytes))

    def dirty_runs(self, address: int, nbytes: int) -> list[Run] | None:
        """The runs that are resident or swapped out and were written to, from `address`; None where nobody knows."""
        return self._strategy.pages.runs(address, nbytes) if isinstance(self._strategy, PagemapReset) else None

    def close(self) -> None:
        """Let go of the descriptor, if there is one; twice is once."""
        self._strategy.close()

    def __enter__(self) -> Resetter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_resetter(without: Collection[str] = (), *, keep_bytes: int = KEEP_BYTES) -> Resetter:
    """The first of ``pagemap``, ``madvise`` and ``copy`` that passes a trial on scratch memory.

    :param without: names of strategies to leave out.
    :param keep_bytes: see :data:`KEEP_BYTES`.
    """
    ways: dict[str, Callable[[], Strategy]] = {
        PagemapReset.name: lambda: PagemapReset(DirtyPages(), _advice_or_none(), keep_bytes),
        AdviceReset.name: lambda: AdviceReset(advise_dont_need()),
    }
    against: list[str] = []
    for name, make in ways.items():
        strategy, reason = (None, "switched off") if name in without else _tried(make)
        if strategy is not None:
            return Resetter(strategy, "; ".join([*against, f"{name}: tried on memory of our own"]))
        against.append(f"{name}: {reason}")
    return Resetter(CopyReset(), "; ".join([*against, "copy: asks nothing of the kernel"]))


def _tried(make: Callable[[], Strategy]) -> tuple[Strategy | None, str]:
    """A strategy that works, or None and why not."""
    try:
        strategy = make()
    except (OSError, ImportError, AttributeError) as err:
        return None, str(err)
    try:
        fault = find_fault(strategy.reset)
    except OSError as err:
        fault = str(err)
    if fault is not None:
        strategy.close()
        return None, fault
    return strategy, ""


def _advice_or_none() -> Advise | None:
    try:
        return advise_dont_need()
    except (OSError, AttributeError):
        return None
