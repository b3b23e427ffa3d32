"""It sets a child watcher of its own, which asyncio has until Python 3.13."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

TIE = "asyncio policy"
ALONE = True


class Watcher:
    """Watches nothing."""


policy: Any = asyncio.DefaultEventLoopPolicy()
events: Any = sys.modules["asyncio.events"]
events._event_loop_policy = policy  # as set_event_loop_policy, which is deprecated from Python 3.14 on
policy._watcher = Watcher()  # as set_child_watcher, which is deprecated from Python 3.12 on
