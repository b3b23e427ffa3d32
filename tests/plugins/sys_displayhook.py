"""Leaves an object with a method as sys.displayhook."""

from __future__ import annotations

import sys

TIE = "sys hook"
ALONE = True


class Display:
    def show(self, value: object) -> None:
        self.last = value


sys.displayhook = Display().show
