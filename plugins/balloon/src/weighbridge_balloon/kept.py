"""Files of the kernel that are read again and again."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final

_CHUNK: Final = 16 * 1024
_MOST: Final = 64


class KeptFile:
    """A file that is opened once and read from its beginning each time. Thread-safe.

    The kernel makes the text anew for each read from offset 0. A read may give a part: /proc/vmstat comes a page at a
    time (``seq_read_iter`` in https://github.com/torvalds/linux/blob/v6.12/fs/seq_file.c), so it is read to its end.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self._descriptor: int | None = None
        self._lock = threading.Lock()

    def read(self) -> bytes | None:
        """The whole text; None if it cannot be read. At most 1 MiB."""
        with self._lock:
            try:
                if self._descriptor is None:
                    self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
                return _read(self._descriptor)
            except (OSError, ValueError):
                self._close()
                return None

    def close(self) -> None:
        """Give the descriptor back; the next read opens the file again."""
        with self._lock:
            self._close()

    def __del__(self) -> None:
        self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _read(descriptor: int) -> bytes:
    text = os.pread(descriptor, _CHUNK, 0)
    for _ in range(_MOST):
        more = os.pread(descriptor, _CHUNK, len(text))
        if not more:
            break
        text += more
    return text
