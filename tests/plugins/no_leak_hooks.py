"""Leaves nothing: what it hooked and patched it puts back itself, and it subclasses what is others'."""

from __future__ import annotations

import contextlib
import io
import sys
from fractions import Fraction
from types import TracebackType
from unittest import mock

TIE = ()


class Exact(Fraction):
    def halved(self) -> Fraction:
        return self / 2


def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None: ...


previous, sys.excepthook = sys.excepthook, hook
sys.excepthook = previous
with contextlib.redirect_stderr(io.StringIO()), mock.patch("shlex.quote", new=hook):
    pass


def intact() -> object:
    return str(Exact(1, 2).halved())
