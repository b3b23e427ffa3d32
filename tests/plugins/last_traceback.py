"""Leaves the traceback of an exception of its own where an interactive interpreter keeps the last one."""

from __future__ import annotations

import sys

TIE = "last exception"
ALONE = True


def fail() -> None:
    raise ValueError("on purpose")


def use() -> None:
    try:
        fail()
    except ValueError as error:
        sys.last_traceback = error.__traceback__
