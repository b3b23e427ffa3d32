"""Leaves a formatter on a handler of somebody else's."""

from __future__ import annotations

import io
import logging

TIE = "logging formatter"

written = io.StringIO()
logger = logging.getLogger(f"scales.{__name__.rpartition('.')[2]}")


class Form(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"[{record.getMessage()}]"


handler = logging.StreamHandler(written)
handler.setFormatter(Form())
logger.addHandler(handler)
logger.propagate = False


def intact() -> object:
    logger.error("full")
    text = written.getvalue()
    written.seek(0)
    written.truncate()
    return text
