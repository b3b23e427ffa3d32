"""A database of the capability's, in a host of its own process: this file's program.

python -m foreign.hosted STORE MODULE new|HANDLE STATEMENT...
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Final

from .drivers.sqlite import Database, Sqlite, start
from .in_session import InSession

NAME: Final = "database"


def main(store: str, module: str, handle: str, *statements: str) -> None:
    """Print the database's handle, what each statement gives, and how the module stands after that."""
    # By its name: the host is no dependency of the plugin.
    isolation = importlib.import_module("weighbridge.isolation")
    with isolation.IsolatedHost(meter="process", store=store) as host:
        host.allow("wasm")
        host.load("wasm")
        scaling = host.capabilities["wasm"]
        scaling.register(Path(module), {"keep_state": True}, name=NAME, functions=Sqlite().functions)
        with scaling.session(NAME) as session:
            guest = InSession(session)
            database = opened(guest) if handle == "new" else Database(guest, int(handle))
            rows = [database.execute(statement) for statement in statements]
        found = scaling.statistics()
    print(json.dumps({"handle": database.handle, "rows": rows, "hits": found.cache.hits}))


def opened(guest: InSession) -> Database:
    """A new database."""
    start(guest)
    return Database.open(guest)


if __name__ == "__main__":
    main(*sys.argv[1:])
