"""It leaves an object of its own in a threading.local of the application's."""

from __future__ import annotations

import sys
import threading
from types import ModuleType
from typing import Any

TIE = "threading.local"
# stands for a module of the application, which both copies of this plugin know
application: Any = sys.modules.setdefault("application", ModuleType("application"))
application.__dict__.setdefault("local", threading.local())


class Connection:
    """What the thread keeps."""


setattr(application.local, __name__, Connection())


def intact() -> object:
    """Whether this copy's object is still there."""
    return type(getattr(application.local, __name__)) is Connection
