"""Leaves a partial of its function in sys.breakpointhook."""

from __future__ import annotations

import functools
import sys

TIE = "sys hook"
ALONE = True


def stop(where: str, *args: object) -> None:
    print(where, *args, file=sys.stderr)


sys.breakpointhook = functools.partial(stop, "here")
