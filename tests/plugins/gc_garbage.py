"""An object of its own is in gc.garbage."""

from __future__ import annotations

import gc

TIE = "gc.garbage"


class Rubbish:
    """What a collection with gc.DEBUG_SAVEALL leaves behind."""


def use() -> None:
    """Collect one object in a cycle, and keep what was collected."""
    rubbish = Rubbish()
    rubbish.__dict__["itself"] = rubbish
    del rubbish
    kept = list(gc.garbage)
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    gc.garbage[:] = kept + [one for one in gc.garbage if type(one) is Rubbish]


def intact() -> object:
    """How much of it is this copy's."""
    return len([one for one in gc.garbage if type(one) is Rubbish])
