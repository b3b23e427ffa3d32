"""Leaves loggers of its own name, and a name below it, in the tree of loggers."""

from __future__ import annotations

import logging

TIE = "logger"
BYTES_ONLY = True

logger = logging.getLogger(__name__)
deep = logging.getLogger(f"{__name__}.weights.small")
application = logging.getLogger("application")


def intact() -> object:
    tree = logging.Logger.manager.loggerDict
    names = [f"{__name__}{end}" in tree for end in ("", ".weights", ".weights.small")]
    return [*names, deep.parent is logger, logger.parent is logging.root, "application" in tree]
