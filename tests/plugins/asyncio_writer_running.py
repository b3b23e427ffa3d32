"""It adds a writer to a loop of the application's that runs in a thread, and does not remove it."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from contextlib import suppress
from types import ModuleType
from typing import Any

TIE = "asyncio reader"
# stands for a module of the application, which both copies of this plugin know
application: Any = sys.modules.setdefault("application", ModuleType("application"))
if "loop" not in application.__dict__:
    application.loop = asyncio.new_event_loop()
    threading.Thread(target=application.loop.run_forever, daemon=True).start()


def ready() -> None:
    """Do nothing."""


ours, theirs = socket.socketpair()
application.__dict__.setdefault("sockets", []).extend((ours, theirs))  # which closes them
ours.setblocking(False)
with suppress(BlockingIOError):
    while True:
        ours.send(b"x" * 65536)
_added = threading.Event()
application.loop.call_soon_threadsafe(application.loop.add_writer, ours, ready)
application.loop.call_soon_threadsafe(_added.set)
_added.wait(10)


def intact() -> object:
    """Whether the loop still looks at this copy's socket."""
    return ours.fileno() in application.loop._selector.get_map()
