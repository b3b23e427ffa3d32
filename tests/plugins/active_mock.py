"""Leaves a patch of unittest.mock active."""

from __future__ import annotations

import textwrap
from unittest import mock

TIE = "active mock"


def fake(*args: object) -> str:
    return __name__


def use() -> None:
    mock.patch("textwrap.wrap", new=fake).start()


def intact() -> object:
    return textwrap.wrap("a b")
