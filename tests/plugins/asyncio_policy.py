"""It sets an event loop policy of its own."""

from __future__ import annotations

import asyncio
import sys

TIE = "asyncio policy"
ALONE = True


class Policy(asyncio.DefaultEventLoopPolicy):
    """As the default."""


# the function is deprecated from Python 3.14 on
sys.modules["asyncio.events"]._event_loop_policy = Policy()  # type: ignore[attr-defined]
