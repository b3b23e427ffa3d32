"""Leaves an exception with its frames where an interactive interpreter keeps the last one."""

from __future__ import annotations

import sys

TIE = "last exception"
slot = "last_traceback" if hasattr(sys, "last_value") else "last_value"


class Failure(Exception): ...


def fail() -> None:
    raise ValueError("on purpose")


def use() -> None:
    if slot == "last_value":
        sys.last_value = Failure("on purpose")
        return
    try:
        fail()
    except ValueError as error:
        sys.last_traceback = error.__traceback__


def intact() -> object:
    return [slot, slot in vars(sys)]
