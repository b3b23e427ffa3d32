"""Handlers of signals."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

from ..belongings import Belongings
from ..names import name_of, namespace_of
from .previous import previous
from .tie import Hold, Tie


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
            if handler in belongings:
                default = space["default_int_handler"] if number == space["SIGINT"] else space["SIG_DFL"]
                former = previous(handler, default, belongings)
                cut = partial(space["signal"], number, former) if is_main else None
                yield Hold(place=_place(number), held=name_of(handler), cut=cut, note="" if is_main else _OTHER)


_OTHER = "only the main thread can set a handler: unload from there"


def _place(number: int) -> str:
    module: Any = sys.modules.get("signal")
    return f"signal.getsignal({number})" if module is None else f"signal.getsignal({module.Signals(number).name})"
