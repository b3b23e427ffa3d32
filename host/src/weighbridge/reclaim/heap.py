"""One walk over all live objects."""

from __future__ import annotations

import gc
from collections.abc import Iterable
from itertools import chain, compress, starmap
from typing import Any


def gather(kinds: Iterable[type]) -> dict[type, list[Any]]:
    """Every live object of one of these exact types, by type; under ``type`` every class, whatever its metaclass.

    Told by exact type: asking an unknown object for an attribute could run its code. No other object is held for longer
    than the walk takes, and no other thread runs meanwhile: a tuple that one of them is building cannot grow while it
    is held (https://github.com/python/cpython/issues/59313). So the walk is one call of compiled code from beginning to
    end. A long switch interval would not do: whoever already waits for the interpreter gets it all the same, and this
    thread would then wait for as long as that interval.
    """
    wanted = {id(kind): kind for kind in kinds}  # by identity: not every class can be hashed
    if id(type) in wanted:
        wanted |= {id(kind): type for kind in _metaclasses()}
    found: dict[type, list[Any]] = {kind: [] for kind in wanted.values()}
    things: list[Any] = []
    fill = map(things.extend, starmap(gc.get_objects, [()]))
    pick = compress(things, map(wanted.__contains__, map(id, map(type, things))))
    clear = starmap(things.clear, [()])
    for thing in list(chain(filter(None, fill), pick, filter(None, clear))):
        found[wanted[id(type(thing))]].append(thing)
    return found


def _metaclasses() -> list[type]:
    """Every metaclass there is; one with two bases is listed twice."""
    found: list[type] = [type]
    for metaclass in found:
        found.extend(type.__subclasses__(metaclass))
    return found
