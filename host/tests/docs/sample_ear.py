"""A plugin for the pages: it forgets a handler on somebody else's logger."""

from __future__ import annotations

import logging

from weighbridge_hookspecs import PluginContext


# snippet: ear
class Ear:
    def __init__(self, context: PluginContext) -> None:
        logging.getLogger().addHandler(Drum())


class Drum(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        pass


# end snippet
