"""Threads of the process that Python does not know: those that compiled libraries start for themselves."""

from __future__ import annotations

import os
import sys
import threading
from typing import Final

_FOLDER: Final = "/proc/self/task"


def native_threads() -> frozenset[int]:
    """Their identifiers by the system; none where it does not tell (it is asked on Linux only).

    https://man7.org/linux/man-pages/man5/proc_pid_task.5.html. Threads that were started past ``threading`` have a
    frame in Python and no identifier to compare: only if there are more unknown ones than those, some are native.
    """
    try:
        tasks = {int(name) for name in os.listdir(_FOLDER)}
    except OSError:
        return frozenset()
    threads = threading.enumerate()
    unknown = tasks.difference(thread.native_id or 0 for thread in threads)
    beside = set(sys._current_frames()).difference(thread.ident or 0 for thread in threads)
    return frozenset(unknown) if len(unknown) > len(beside) else frozenset()
