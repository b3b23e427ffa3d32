"""Leaves a logger of a class of its own in the tree, and on somebody else's name."""

from __future__ import annotations

import logging

TIE = "logger"


class Scribe(logging.Logger):
    def scribble(self) -> str:
        return "ink"


def _make(name: str) -> logging.Logger:
    manager = logging.Logger.manager
    before, manager.loggerClass = manager.loggerClass, Scribe
    try:
        return logging.getLogger(name)
    finally:
        manager.loggerClass = before


own = _make(__name__)
others = _make(f"scales.{__name__}")


def intact() -> object:
    found = logging.getLogger(__name__), logging.getLogger(f"scales.{__name__}")
    return found == (own, others) and [one.scribble() for one in found if isinstance(one, Scribe)]
