"""Leaves its functions in the hooks of asynchronous generators."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator

TIE = "asyncgen hook"
ALONE = True


def first(generator: AsyncGenerator[object, object]) -> None: ...


def last(generator: AsyncGenerator[object, object]) -> None: ...


sys.set_asyncgen_hooks(firstiter=first, finalizer=last)
