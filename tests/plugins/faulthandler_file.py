"""Leaves a file object of its own in faulthandler."""

from __future__ import annotations

import faulthandler
import os

TIE = "faulthandler file"
CUT = "all"
ALONE = True


class Log:
    def __init__(self) -> None:
        self.descriptor = os.open(os.devnull, os.O_WRONLY)

    def fileno(self) -> int:
        return self.descriptor

    def flush(self) -> None:
        pass

    def __del__(self) -> None:
        os.close(self.descriptor)


faulthandler.enable(Log())
