"""It adds a reader to a loop of the application's, and does not remove it."""

from __future__ import annotations

import asyncio
import socket
import sys
from types import ModuleType
from typing import Any

TIE = "asyncio reader"
# stands for a module of the application, which both copies of this plugin know
application: Any = sys.modules.setdefault("application", ModuleType("application"))
if "loop" not in application.__dict__:
    application.loop = asyncio.new_event_loop()


def ready() -> None:
    """Do nothing."""


ours, theirs = socket.socketpair()
application.__dict__.setdefault("sockets", []).extend((ours, theirs))  # which closes them
application.loop.add_reader(ours, ready)


def intact() -> object:
    """Whether the loop still looks at this copy's socket."""
    return ours.fileno() in application.loop._selector.get_map()
