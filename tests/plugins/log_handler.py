"""Leaves a handler on the root logger and on a logger of somebody else's."""

from __future__ import annotations

import logging

TIE = "logging handler"

heard: list[str] = []


class Clerk(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        heard.append(record.getMessage())


logging.getLogger().addHandler(Clerk())
logging.getLogger("scales.platform").addHandler(Clerk())


def intact() -> object:
    heard.clear()
    logging.getLogger("scales.platform").error("full")
    return heard
