"""It asks threading to call it before the last threads are joined."""

from __future__ import annotations

import threading
from functools import partial

TIE = "threading exit"


def goodbye(word: str) -> None:
    """Say nothing."""


threading._register_atexit(partial(goodbye, "bye"))  # type: ignore[attr-defined]
count = len(threading._threading_atexits)  # type: ignore[attr-defined]


def intact() -> object:
    """How many entries lead to this copy."""
    import gc

    return len([one for one in gc.get_referrers(goodbye) if type(one) is partial])
