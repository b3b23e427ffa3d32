"""Leaves the patterns that it compiled in the cache of re."""

from __future__ import annotations

import re

TIE = "re cache"
BYTES_ONLY = True

NAME = __name__
PATTERN = re.compile(rf"{NAME} weighs \d+ kg")


def intact() -> object:
    kept = any(pattern is PATTERN for pattern in list(vars(re)["_cache"].values()))
    return kept and PATTERN.match(f"{NAME} weighs 7 kg") is not None
