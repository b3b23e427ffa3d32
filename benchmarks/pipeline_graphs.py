"""Graphs for the benchmark of pipelines, and what it takes times with."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

Needs = dict[str, list[str]]


def chain(count: int) -> Needs:
    """Each needs the one before."""
    return {str(number): [str(number - 1)] if number else [] for number in range(count)}


def wide(count: int) -> Needs:
    """None needs another."""
    return {str(number): [] for number in range(count)}


def layered(count: int) -> Needs:
    """Ten beside each other; each needs two of the ten above."""
    return {
        str(number): [str(number - 10), str(number - number % 10 - 10 + (number + 1) % 10)] if number >= 10 else []
        for number in range(count)
    }


def at_random(count: int, seed: int) -> Needs:
    """Each needs up to three of those before."""
    chance = random.Random(seed)
    return {
        str(number): [str(one) for one in chance.sample(range(number), min(number, chance.randrange(4)))]
        for number in range(count)
    }


def ends(needs: Needs) -> list[str]:
    """Those that no other needs."""
    return sorted(set(needs) - {need for wanted in needs.values() for need in wanted})


def longest(needs: Needs, seconds: dict[str, float]) -> float:
    """What the longest way through the graph takes, forwards and backwards; each stands behind those that it needs."""
    until: dict[str, float] = {}
    for name, wanted in needs.items():
        until[name] = seconds[name] + max((until[one] for one in wanted), default=0.0)
    return max(until.values())


class Way(NamedTuple):
    """Something that is timed.

    :ivar prepare: makes what `work` gets, and is not timed.
    :ivar times: how often in each round.
    """

    work: Callable[[Any], object]
    prepare: Callable[[], Any] = lambda: None
    times: int = 1


def medians(ways: dict[str, Way], rounds: int) -> dict[str, float]:
    """Median seconds of each; rounds alternate, and the first one warms up."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            times = [_seconds(way) for _ in range(way.times)]
            taken[name] += times if number else []
    return {name: statistics.median(each) for name, each in taken.items()}


def _seconds(way: Way) -> float:
    thing = way.prepare()
    began = time.perf_counter()
    way.work(thing)
    return time.perf_counter() - began


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they have to be."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("    " + "  ".join(cells).rstrip())
