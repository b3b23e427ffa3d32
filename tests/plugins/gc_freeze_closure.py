"""It calls gc.freeze when closures of its own are in lists, in partials and in the hands of others."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable

TIE = "gc.freeze"


def make(step: int) -> Callable[[], int]:
    """A function that no module has a name for."""

    def weigh() -> int:
        return step

    return weigh


listed = [make(1), make(2)]
wrapped = functools.partial(make(3))


def use() -> None:
    """Freeze."""
    gc.freeze()


def intact() -> object:
    """Whether this copy still works."""
    return [*(one() for one in listed), wrapped()] == [1, 2, 3]
