"""Leaves its function as the factory of log records, which the next one wraps."""

from __future__ import annotations

import logging
from typing import Any

TIE = "log record factory"

made: list[str] = []


def _wrapped(original: Any) -> Any:
    def factory(*arguments: Any, **named: Any) -> logging.LogRecord:
        made.append(str(arguments[4]))
        record: logging.LogRecord = original(*arguments, **named)
        return record

    return factory


factory = _wrapped(logging.getLogRecordFactory())
logging.setLogRecordFactory(factory)
logger = logging.getLogger("scales.factory")


def intact() -> object:
    made.clear()
    logger.error("a %s one", "full")
    return [logging.getLogRecordFactory() is factory, made]
