"""A collection that really happens.

While another thread collects, ``gc.collect`` returns at once and has looked at nothing: that thread may be in the
middle of a finalizer (``PyGC_Collect`` in https://github.com/python/cpython/blob/3.11/Modules/gcmodule.c).
"""

from __future__ import annotations

import gc
import operator
import threading
import time
from functools import partial
from itertools import filterfalse
from typing import Any, Final

_PAUSE: Final = 0.001
_FULL: Final = 2


def collect(seconds: float) -> bool:
    """One full collection by this thread; false if others were at it for all of `seconds`."""
    deadline, mine = time.monotonic() + seconds, threading.get_ident()
    seen: list[int] = []

    def note(phase: str, info: dict[str, Any]) -> None:
        if phase == "stop" and info["generation"] == _FULL and threading.get_ident() == mine:
            seen.append(mine)

    gc.callbacks.append(note)
    try:
        gc.collect()
        while not seen and time.monotonic() < deadline:
            time.sleep(_PAUSE)
            gc.collect()
    finally:
        # by identity: what others have put there may compare as it likes
        gc.callbacks[:] = filterfalse(partial(operator.is_, note), gc.callbacks)
    return bool(seen)
