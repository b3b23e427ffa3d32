"""What a pool of processes has to be helped with when one of its workers is killed."""

from __future__ import annotations

import threading
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress


def workers(executor: Executor) -> int:
    """How many worker processes a pool has begun; 0 for another kind of executor."""
    return len(getattr(executor, "_processes", None) or ())


def look_again(executor: Executor) -> None:
    """Have a pool look which workers it has, for it was told of a call before it began another worker for that.

    The thread of a pool waits for the workers that there were when it began to wait. If one that came later is killed,
    nobody knows before another call comes or ends: the call in it seems to run for ever. This wakes the thread. So it
    is in 3.11 to 3.13, in ``submit``: https://github.com/python/cpython/blob/3.13/Lib/concurrent/futures/process.py
    """
    with suppress(AttributeError, OSError), executor._shutdown_lock:  # type: ignore[attr-defined]
        executor._executor_manager_thread_wakeup.wakeup()  # type: ignore[attr-defined]


def see_off(executor: Executor, error: BaseException) -> None:
    """Wait until no worker of a broken pool runs any more, for nothing is undone beside a stage that still runs.

    The pool fails every call first, and ends its workers then, in a thread of its own. That one is waited for, and not
    with ``shutdown``: two threads that call it at once may close one descriptor twice.
    https://docs.python.org/3/library/concurrent.futures.html#concurrent.futures.process.BrokenProcessPool
    """
    thread: threading.Thread | None = getattr(executor, "_executor_manager_thread", None)
    if isinstance(error, BrokenProcessPool) and thread not in (None, threading.current_thread()):
        thread.join()
