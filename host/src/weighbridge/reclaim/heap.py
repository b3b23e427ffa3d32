"""One walk over all live objects."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable
from typing import Any, Final

_LONG_SECONDS: Final = 60.0


def gather(kinds: Iterable[type]) -> dict[type, list[Any]]:
    """Every live object of one of these exact types, by type; under ``type`` every class, whatever its metaclass.

    Told by exact type: asking an unknown object for an attribute could run its code. No other object is held for longer
    than the walk takes, and no other thread runs meanwhile: a tuple that one of them is building cannot grow while it
    is held (https://github.com/python/cpython/issues/59313).
    """
    wanted = {id(kind): kind for kind in kinds}  # by identity: not every class can be hashed
    if id(type) in wanted:
        wanted |= {id(kind): type for kind in _metaclasses()}
    found: dict[type, list[Any]] = {kind: [] for kind in wanted.values()}
    interval = sys.getswitchinterval()
    sys.setswitchinterval(_LONG_SECONDS)
    try:
        things = gc.get_objects()
        picked = [thing for thing, kind in zip(things, map(id, map(type, things)), strict=True) if kind in wanted]
    finally:
        things = []
        sys.setswitchinterval(interval)
    for thing in picked:
        found[wanted[id(type(thing))]].append(thing)
    return found


def _metaclasses() -> list[type]:
    """Every metaclass there is; one with two bases is listed twice."""
    found: list[type] = [type]
    for metaclass in found:
        found.extend(type.__subclasses__(metaclass))
    return found
