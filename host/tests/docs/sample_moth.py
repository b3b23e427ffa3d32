"""A plugin for the pages: it leaves something behind."""

from __future__ import annotations

import logging

from weighbridge_hookspecs import PluginContext


# snippet: moth
class Moth:
    def __init__(self, context: PluginContext) -> None:
        vars(logging.getLogger())["dust"] = Dust()


class Dust(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        pass


# end snippet
