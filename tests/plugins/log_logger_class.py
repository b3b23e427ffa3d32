"""Leaves its class as the one of all new loggers."""

from __future__ import annotations

import logging

TIE = "logger class"
ALONE = True


class Scribe(logging.Logger):
    pass


logging.setLoggerClass(Scribe)
