"""What running processes say of themselves, so that an operator can ask from another one.

Each process has two files in a private folder: one with its figures, which is replaced as a whole, and one that it
keeps locked. The kernel lets go of the lock when the process ends, however it ends, so a lock that can be had belongs
to nobody: its report is removed. The number of a process would not do, since it is used again, and differs between
containers that share the folder.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import attrs
from weighbridge_hookspecs import ConfigurationError

try:
    import fcntl
except ImportError:  # Windows: how old a report is has to do
    fcntl = None  # type: ignore[assignment]

MOST_BYTES: Final = 1 << 20
"""What a report may have; a longer one is not read."""
_KINDS: Final = ("new", "json", "lock")
_STALE_SECONDS: Final = 120.0
"""Where there are no locks: what has not been written for so long is of a process that is gone."""


@attrs.frozen(kw_only=True)
class ProcessReport:
    """What one process wrote."""

    pid: int
    """As the process knows itself; in another container it may be somebody else's."""
    age_seconds: float
    """Since it was written, 0 or more."""
    document: Mapping[str, Any]


class Reports:
    """The reports of all processes that share a folder, and that of this one.

    :param folder: made if it is not there, with its parents; only its owner may enter it.
    :raises ConfigurationError: if it is a link, somebody else's, or open to others.
    :raises OSError: if it cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str], *, clock: Callable[[], float] = time.time) -> None:
        self.folder: Final = Path(folder)
        self._clock = clock
        self._name: Final = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._lock: int | None = None
        self._turn = threading.Lock()  # the timer may be writing when the plugin is unloaded
        self._is_closed = False
        _make_private(self.folder)

    def write(self, document: Mapping[str, Any]) -> None:
        """Put `document` in the place of what this process wrote before. Readers see the old one or the new one.

        Once it is closed this does nothing.

        :raises OSError: if the disk does not take it.
        :raises TypeError, ValueError: if JSON has no way to say it.
        """
        content = {"pid": os.getpid(), "written": self._clock(), "document": document}
        text = json.dumps(content, allow_nan=False)
        with self._turn:
            if self._is_closed:
                return
            if self._lock is None:
                self._lock = _lock(self._file("lock"))
            temporary = self._file("new")
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, self._file("json"))

    def read(self) -> tuple[ProcessReport, ...]:
        """What other processes that are alive have written, by their numbers; what the dead left is removed."""
        reports = [report for path in self._others() if (report := self._read(path)) is not None]
        return tuple(sorted(reports, key=lambda report: report.pid))

    def close(self) -> None:
        """Take this process's report away. Closing twice does nothing."""
        with self._turn:
            self._is_closed = True
            lock, self._lock = self._lock, None
            if lock is None:
                return
            os.close(lock)
            self._remove(self._name)

    def _file(self, kind: str, name: str | None = None) -> Path:
        return self.folder / f"{name or self._name}.{kind}"

    def _others(self) -> Iterator[Path]:
        for name in sorted({path.stem for kind in _KINDS for path in self.folder.glob(f"*.{kind}")}):
            if name != self._name and not self._bury(name):
                yield self._file("json", name)

    def _bury(self, name: str) -> bool:
        """Remove what a dead process left; false if somebody keeps it."""
        if fcntl is None:
            return not _is_recent(self._file("json", name)) and self._remove(name)
        try:
            descriptor = os.open(self._file("lock", name), os.O_RDWR)
        except OSError:
            return self._remove(name)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        else:  # with the lock in hand, or a process that has just made the file would lose it
            return self._remove(name)
        finally:
            os.close(descriptor)

    def _read(self, path: Path) -> ProcessReport | None:
        try:
            with path.open("rb") as file:
                content = json.loads(file.read(MOST_BYTES + 1))
            age = self._clock() - float(content["written"])
            return ProcessReport(pid=int(content["pid"]), age_seconds=max(0.0, age), document=dict(content["document"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None  # not written yet, or nothing that we wrote

    def _remove(self, name: str) -> bool:
        for kind in _KINDS:
            with suppress(OSError):
                self._file(kind, name).unlink()
        return True


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigurationError(f"{folder} is no folder")
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o077):
        raise ConfigurationError(
            f"{folder} is open to others",
            wanted=f"a folder of user {os.getuid()} with mode 0700",
            had=f"one of user {found.st_uid} with mode {stat.S_IMODE(found.st_mode):04o}",
        )


def _lock(path: Path) -> int:
    """Make a file and keep it locked; its descriptor, which no program that is started inherits."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        if fcntl is None:
            return descriptor
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_still(path, descriptor):
            return descriptor
        os.close(descriptor)  # a reader had it before it was locked, and took it for a dead one's


def _is_still(path: Path, descriptor: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    return False


def _is_recent(path: Path) -> bool:
    with suppress(OSError):
        return time.time() - path.stat().st_mtime < _STALE_SECONDS
    return False
