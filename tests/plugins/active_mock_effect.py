"""Leaves a mock in place whose side effect is its own function, and an entry in a dictionary of others."""

from __future__ import annotations

import shlex
from unittest import mock

import pluggy

TIE = "active mock"
slot = "join" if isinstance(shlex.quote, mock.Mock) else "quote"
shared: dict[str, object] = vars(pluggy).setdefault("__mocked__", {})


def effect(*args: object) -> str:
    return __name__


mock.patch(f"shlex.{slot}", side_effect=effect).start()
mock.patch.dict(shared, {__name__: effect}).start()


def intact() -> object:
    return [getattr(shlex, slot)("a b"), shared[__name__] is effect]
