"""It asks to be called at every fork, before and after."""

from __future__ import annotations

import os

TIE = "os.register_at_fork"
calls: list[str] = []


def before() -> None:
    """Count."""
    calls.append("before")


def after() -> None:
    """Count."""
    calls.append("after")


os.register_at_fork(before=before, after_in_parent=after, after_in_child=lambda: None)


def intact() -> object:
    """What a fork calls of this copy."""
    calls.clear()
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return list(calls)
