"""It sets threading.excepthook to a function that calls the former one, and leaves it there."""

from __future__ import annotations

import threading
from collections.abc import Callable

TIE = "threading.excepthook"


def wrap(former: Callable[[threading.ExceptHookArgs], object]) -> Callable[[threading.ExceptHookArgs], None]:
    """The hook of this copy."""

    def report(failure: threading.ExceptHookArgs) -> None:
        """Count, and hand on what has an object."""
        calls.append(__name__)
        if failure.exc_value is not None:
            former(failure)

    return report


calls: list[str] = []
hook = wrap(threading.excepthook)
threading.excepthook = hook


def intact() -> object:
    """Whether this copy's hook is in place and called."""
    calls.clear()
    threading.excepthook(threading.ExceptHookArgs((SystemExit, SystemExit(), None, None)))
    return [threading.excepthook is hook, calls]
