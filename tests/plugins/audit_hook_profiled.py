"""Leaves an audit hook in a process whose application has set a profile function."""

from __future__ import annotations

import sys
from typing import Any

TIE = "audit hook"
STRANDED = True
heard: list[str] = []
profile: Any = slice  # stands for somebody's profiler: anything that can be called with three arguments


def hook(event: str, arguments: tuple[object, ...]) -> None:
    if event == "weighbridge.tests":
        heard.append(event)


def use() -> None:
    sys.addaudithook(hook)
    sys.setprofile(profile)


def intact() -> object:
    heard.clear()
    sys.audit("weighbridge.tests")
    return [*heard, sys.getprofile() is profile]
