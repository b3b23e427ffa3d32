"""Leaves its function in sys.unraisablehook."""

from __future__ import annotations

import sys

TIE = "sys hook"
ALONE = True


def hook(unraisable: sys.UnraisableHookArgs) -> None:
    sys.__unraisablehook__(unraisable)


sys.unraisablehook = hook
