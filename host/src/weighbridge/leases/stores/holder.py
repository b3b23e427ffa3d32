"""Who holds the lock on a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_LOCKS: Final = Path("/proc/locks")


def holder_of(path: str) -> str:
    """The process that has locked `path`, in words; "another process" where the system does not say which.

    The file is not opened in order to ask: closing it again would take away the locks of this process.
    https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_
    """
    pid = _locker(path)
    if pid is None:
        return "another process"
    return "this process" if pid == os.getpid() else f"process {pid}"


def _locker(path: str) -> int | None:
    """The id from `/proc/locks`: https://man7.org/linux/man-pages/man5/proc_locks.5.html."""
    try:
        status = os.stat(path)
        lines = _LOCKS.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return None
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in lines:
        fields = line.split()
        if len(fields) == 8 and fields[1] == "POSIX" and fields[5] == device and int(fields[4]) > 0:
            return int(fields[4])
    return None
