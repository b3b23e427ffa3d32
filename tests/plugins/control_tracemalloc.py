"""Filters snapshots of tracemalloc, which keeps no filter."""

from __future__ import annotations

import tracemalloc

TIE = ()


class Own(tracemalloc.Filter):
    pass


filters = [Own(True, __file__)]


def use() -> None:
    tracemalloc.start()
    tracemalloc.take_snapshot().filter_traces(filters)
    tracemalloc.stop()


def intact() -> object:
    return filters[0].filename_pattern.endswith(".py")
