"""Leaves an audit hook, which nothing can remove."""

from __future__ import annotations

import sys

TIE = "audit hook"
STRANDED = True
heard: list[str] = []


def hook(event: str, arguments: tuple[object, ...]) -> None:
    if event == "weighbridge.tests":
        heard.append(event)


sys.addaudithook(hook)


def intact() -> object:
    heard.clear()
    sys.audit("weighbridge.tests")
    return heard
