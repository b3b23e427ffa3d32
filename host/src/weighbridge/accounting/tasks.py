"""Threads of the process that Python does not know: those that compiled libraries start for themselves."""

from __future__ import annotations

import os
import sys
import threading
from typing import Final

import attrs

_FOLDER: Final = "/proc/self/task"


@attrs.frozen
class Tasks:
    """The threads that ``threading`` does not know, at one moment."""

    unknown: frozenset[int]
    """By the system's identifiers. None where it does not tell (it is asked on Linux only)."""
    beside: frozenset[int]
    """Those that were started past ``threading`` and run Python all the same, by Python's identifiers."""

    @classmethod
    def now(cls) -> Tasks:
        """Look at https://man7.org/linux/man-pages/man5/proc_pid_task.5.html."""
        try:
            tasks = {int(name) for name in os.listdir(_FOLDER)}
        except OSError:
            tasks = set()
        threads = threading.enumerate()
        unknown = tasks.difference(thread.native_id or 0 for thread in threads)
        beside = set(sys._current_frames()).difference(thread.ident or 0 for thread in threads)
        return cls(frozenset(unknown), frozenset(beside))

    def since(self, before: Tasks) -> frozenset[int]:
        """Native threads that came since, by the system's identifiers.

        The two kinds of identifiers cannot be compared, so what runs Python is told by number only.
        """
        came = self.unknown - before.unknown
        return came if len(came) > len(self.beside - before.beside) else frozenset()
