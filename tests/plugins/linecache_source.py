"""Leaves its source lines in linecache, as every traceback does."""

from __future__ import annotations

import linecache

TIE = "linecache"
BYTES_ONLY = True

first = linecache.getline(__file__, 1)


def intact() -> object:
    return __file__ in linecache.cache and linecache.getline(__file__, 1)
