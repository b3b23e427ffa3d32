"""A folder of this process alone, where workers of the same machine find what is too large for a pipe.

Only its user may enter it, for what lies in it is unpickled: https://docs.python.org/3/library/pickle.html
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from contextlib import suppress
from typing import Final

PREFIX: Final = "weighbridge-pipeline-"
_OWNER: Final = "owner"


class PrivateFolder:
    """Made at first use, where ``tempfile`` makes folders: in ``TMPDIR`` of the environment, say. Thread-safe.

    Its maker keeps a file in it locked for as long as it lives, so that a folder whose maker was killed is known by a
    lock that anybody can get. Whoever makes the next one removes it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._path: str | None = None
        self._owner = -1
        self._is_closed = False

    @property
    def path(self) -> str | None:
        """Where it is; None as long as nobody has needed it."""
        return self._path

    def room(self, name: str) -> str:
        """The path of a folder in it, which is made if it is not there.

        :raises OSError: if the disk does not take it.
        :raises RuntimeError: once it is closed.
        """
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the folder was removed")
            if self._path is None:
                sweep()
                self._path, self._owner = _made()
            room = os.path.join(self._path, name)
            with suppress(FileExistsError):
                os.mkdir(room, 0o700)
            return room

    def close(self) -> None:
        """Remove it with all that is in it. Closing twice does nothing."""
        with self._lock:
            self._is_closed = True
            path, self._path = self._path, None
        if path is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(self._owner)


def sweep() -> int:
    """Remove the folders of processes of this user that were killed; how many."""
    swept = 0
    with os.scandir(tempfile.gettempdir()) as entries:
        left = [entry.path for entry in entries if entry.name.startswith(PREFIX) and _is_ours(entry)]
    for path in left:
        try:
            owner = os.open(os.path.join(path, _OWNER), os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            continue  # it has gone, or is just being made
        try:
            if _is_locked(owner):
                shutil.rmtree(path, ignore_errors=True)
                swept += 1
        finally:
            os.close(owner)
    return swept


def _is_ours(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_uid == os.getuid()
    except OSError:
        return False


def _made() -> tuple[str, int]:
    """A new folder and its locked file. Somebody who sweeps may be quicker than the lock: then there is another one."""
    while True:
        path = tempfile.mkdtemp(prefix=PREFIX)
        owner = os.open(os.path.join(path, _OWNER), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        if _is_locked(owner) and os.fstat(owner).st_nlink:
            return path, owner
        os.close(owner)


def _is_locked(descriptor: int) -> bool:
    """Whether this process has the lock now."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
