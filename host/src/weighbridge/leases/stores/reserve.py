"""Room on the disk that is kept for deletes: without it a full disk could not be emptied."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final


class Reserve:
    """A file of zeros. Giving it up makes room for one change of the index, which may free more."""

    def __init__(self, path: str, nbytes: int) -> None:
        self.path: Final = path
        self.nbytes: Final = nbytes

    def make(self) -> None:
        """Have it there, if there is room for it."""
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError:
            return  # it is there, or there is no room
        try:
            is_whole = os.write(descriptor, bytes(self.nbytes)) == self.nbytes
        except OSError:
            is_whole = False
        finally:
            os.close(descriptor)
        if not is_whole:
            self.give_up()

    def give_up(self) -> None:
        """Remove it."""
        with suppress(OSError):
            os.unlink(self.path)
