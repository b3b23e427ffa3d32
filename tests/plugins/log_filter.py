"""Leaves filters on a logger and on a handler of somebody else's."""

from __future__ import annotations

import logging

TIE = "logging filter"

seen: list[str] = []
logger = logging.getLogger("scales.platform")


def remember(record: logging.LogRecord) -> bool:
    seen.append(record.getMessage())
    return True


class Clerk(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return remember(record)


if not logger.handlers:
    logger.addHandler(logging.NullHandler())
logger.addFilter(Clerk())
logger.handlers[0].addFilter(remember)


def intact() -> object:
    seen.clear()
    logger.error("full")
    return seen
