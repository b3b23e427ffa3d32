"""It leaves an object of its own in a threading.local of the application's, in another thread that goes on."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

TIE = "threading.local"
# stands for a module of the application, which both copies of this plugin know
application: Any = sys.modules.setdefault("application", ModuleType("application"))
if "elsewhere" not in application.__dict__:
    application.elsewhere = threading.local()
    application.executor = ThreadPoolExecutor(1)


class Connection:
    """What the thread keeps."""


application.executor.submit(setattr, application.elsewhere, __name__, Connection()).result()


def intact() -> object:
    """Whether this copy's object is still there."""
    kept = application.executor.submit(getattr, application.elsewhere, __name__, None).result()
    return type(kept) is Connection
