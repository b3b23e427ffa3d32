"""Leaves callbacks with sys.monitoring, which there is from Python 3.12 on."""

from __future__ import annotations

import sys
from types import CodeType
from typing import Any

TIE = "sys.monitoring callback"
SINCE = (3, 12)
monitoring: Any = vars(sys).get("monitoring")
events: list[str] = []


def started(code: CodeType, offset: int) -> None:
    events.append(code.co_name)


def returned(code: CodeType, offset: int, value: object) -> None:
    events.append(code.co_name)


def observed() -> None: ...


if monitoring:
    tool = next(number for number in range(6) if monitoring.get_tool(number) is None)
    monitoring.use_tool_id(tool, __name__)
    monitoring.register_callback(tool, monitoring.events.PY_START, started)
    monitoring.register_callback(tool, monitoring.events.PY_RETURN, returned)
    monitoring.set_local_events(tool, observed.__code__, monitoring.events.PY_START | monitoring.events.PY_RETURN)


def intact() -> object:
    events.clear()
    observed()
    return [*events, monitoring.get_tool(tool)]
