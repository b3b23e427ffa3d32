"""Ctrl-C, SIGTERM and SIGHUP: all of them mean "clear up and go"."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

import attrs

SIGNALS: Final = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupted(KeyboardInterrupt):
    """Somebody wants this to end.

    :param number: the signal that said so.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.number: Final = number

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as a shell has it."""
        return 128 + self.number


@attrs.define
class Signals:
    """The signals that came during a block."""

    came: list[int] = attrs.field(factory=list)

    def check(self) -> None:
        """Raise again what a plugin may have swallowed.

        :raises Interrupted: if a signal came.
        """
        if self.came:
            raise Interrupted(self.came[0])

    def take(self, number: int, frame: FrameType | None) -> None:
        """Handle one: the first raises, the second lets the clearing up go on, the third ends the process at once."""
        self.came.append(number)
        if len(self.came) == 1:
            raise Interrupted(number)
        if len(self.came) > 2:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)


@contextmanager
def interruptible() -> Iterator[Signals]:
    """Inside, a signal raises :class:`Interrupted`.

    A signal that was ignored from the start, as ``nohup`` has it, stays so. Blocks may be nested: each counts its own.
    """
    signals = Signals()
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {one: signal.getsignal(one) for one in SIGNALS if signal.getsignal(one) is not signal.SIG_IGN}
    for one in before:
        signal.signal(one, signals.take)
    try:
        yield signals
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
