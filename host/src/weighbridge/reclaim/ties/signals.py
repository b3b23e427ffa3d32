"""Handlers of signals."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import attrs

from ..belongings import Belongings
from ..names import namespace_of
from .interpreter import unhooked
from .tie import Hold, Tie
from .wrapping import is_own


class SignalHandlers(Tie):
    """Python's handlers, one for each signal."""

    name = "signal handler"
    sentence = "the plugin handles a signal; the handler that it wraps, or the default, is set"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """A signal each; only the main thread can set another handler.

        https://docs.python.org/3/library/signal.html#signals-and-threads
        """
        space = namespace_of(sys.modules.get("_signal"))
        if not space:
            return
        is_main = threading.current_thread() is threading.main_thread()
        for number in sorted(space["valid_signals"]()):
            handler = space["getsignal"](number)
            default = space["default_int_handler"] if number == space["SIGINT"] else space["SIG_DFL"]
            put = partial(space["signal"], number)
            is_settable = is_main or not is_own(handler, belongings)  # a wrapped one is changed in its wrapper
            for hold in unhooked(_place(number), handler, default, put, belongings):
                yield hold if is_settable else attrs.evolve(hold, cut=None, note=_OTHER)


_OTHER = "only the main thread can set a handler: unload from there"


def _place(number: int) -> str:
    module: Any = sys.modules.get("signal")
    try:
        return f"signal.getsignal({module.Signals(number).name})"
    except (AttributeError, ValueError):  # nobody has imported it, or it has no name for this one
        return f"signal.getsignal({int(number)})"
