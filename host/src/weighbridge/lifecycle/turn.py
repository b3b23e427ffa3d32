"""One load or unload at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from weighbridge_hookspecs import NestedLoad


class Turn:
    """Who may change what is loaded. Other threads wait for their turn; a call from inside a turn is an error.

    :ivar lock: what they wait for. Who holds it may have several turns, one after the other.
    """

    def __init__(self) -> None:
        self.lock: Final = threading.RLock()
        self._busy: tuple[str, str] | None = None

    @contextmanager
    def of(self, name: str, step: str) -> Iterator[None]:
        """One load or unload at a time. One that is asked for from inside another is an error, not a deadlock.

        :raises NestedLoad: names the one that is under way in this thread.
        """
        with self.lock:
            if self._busy is not None:
                outer, doing = self._busy
                raise NestedLoad(
                    f"cannot be {step}ed while {outer!r} is being {doing}ed",
                    plugin=name,
                    step=step,
                    advice=f"Let the manifest of {outer} say requires = [{name!r}]" if step == "load" else None,
                )
            self._busy = (name, step)
            try:
                yield
            finally:
                self._busy = None
