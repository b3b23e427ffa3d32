"""Leaves a handler as the target of a MemoryHandler of somebody else's."""

from __future__ import annotations

import logging
import logging.handlers

TIE = "logging handler"

heard: list[str] = []
logger = logging.getLogger(f"scales.{__name__.rpartition('.')[2]}")


class Clerk(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        heard.append(record.getMessage())


buffer = logging.handlers.MemoryHandler(1, target=Clerk())
logger.addHandler(buffer)


def intact() -> object:
    heard.clear()
    logger.error("full")
    return heard
