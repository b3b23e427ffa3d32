"""It asks multiprocessing to be called in child processes, for an object of the application's."""

from __future__ import annotations

import multiprocessing.util
import sys
from types import ModuleType
from typing import Any

TIE = "multiprocessing after fork"
# stands for a module of the application, which both copies of this plugin know
application: Any = sys.modules.setdefault("application", ModuleType("application"))


# an object of the application's: an entry for one of the plugin's goes with it, if anybody lets go of it
application.__dict__.setdefault("anchor", ModuleType("anchor"))


def reconnect(anchor: object) -> None:
    """Do nothing."""


multiprocessing.util.register_after_fork(application.anchor, reconnect)


def intact() -> object:
    """How many entries call this copy."""
    return len([key for key in vars(multiprocessing.util)["_afterfork_registry"].data if key[-1] is reconnect])
