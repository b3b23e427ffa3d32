"""Values that are files of their own."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NoReturn

from weighbridge_hookspecs import StorageDamaged, StorageFailed

_FINISHED: Final = re.compile(r"[0-9a-f]{32}")
_OURS: Final = re.compile(r"[0-9a-f]{32}(\.tmp)?")
# Without it Windows changes line ends; elsewhere there is no such flag.
_BINARY: Final = getattr(os, "O_BINARY", 0)
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ValueFiles:
    """A folder with one file for each large value. A name is never used twice, so that a file is never changed.

    Paths are texts: a `pathlib.Path` would keep each name for ever on Python 3.12, whose interned texts are immortal.
    https://github.com/python/cpython/issues/113993
    """

    def __init__(self, folder: str) -> None:
        self.folder: Final = folder

    def path(self, name: str) -> str:
        """Where the file of that name is."""
        return os.path.join(self.folder, name)

    def write(self, value: bytes) -> str:
        """Write a new file that survives a crash, and return its name.

        The steps are those of https://lwn.net/Articles/457667/: write, sync, rename, sync the folder.

        :raises StorageFailed: if the disk is full or cannot be written; nothing is left there then.
        """
        name = os.urandom(16).hex()
        try:
            self._make_folder()
            _write_synced(self.path(f"{name}.tmp"), value)
            os.rename(self.path(f"{name}.tmp"), self.path(name))
            sync_folder(self.folder)
        except BaseException as error:
            self.discard(f"{name}.tmp")
            self.discard(name)
            if isinstance(error, OSError):
                refused(error, self.folder, len(value))
            raise
        return name

    def open(self, name: str) -> int:
        """Open a file for reading; the descriptor is the caller's to close.

        :raises StorageDamaged: if it is not there.
        """
        if not _FINISHED.fullmatch(name):
            raise StorageDamaged(f"{name!r} is no name of a file in {self.folder}", advice="Restore the index")
        try:
            return os.open(self.path(name), os.O_RDONLY | _BINARY)
        except FileNotFoundError:
            raise StorageDamaged(
                f"the file {self.path(name)} is missing", advice="Restore it, or delete the key"
            ) from None
        except OSError as error:
            refused(error, self.path(name))

    def read(self, descriptor: int) -> bytes:
        """All that is in an open file, which is closed.

        :raises StorageFailed: if the disk cannot be read.
        """
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            try:
                return file.read()
            except OSError as error:
                refused(error, self.folder)

    def discard(self, name: str) -> None:
        """Remove a file; what cannot be removed now is swept when the store is opened next."""
        with suppress(OSError):
            os.unlink(self.path(name))

    def names(self) -> Iterator[str]:
        """The files here, unfinished ones too; files that are not ours are passed over."""
        try:
            with os.scandir(self.folder) as entries:
                yield from (entry.name for entry in entries if _OURS.fullmatch(entry.name))
        except FileNotFoundError:
            return
        except OSError as error:
            refused(error, self.folder)

    def _make_folder(self) -> None:
        try:
            os.mkdir(self.folder, 0o700)
        except FileExistsError:
            return
        sync_folder(os.path.dirname(self.folder))


def sync_folder(folder: str) -> None:
    """Make the names in `folder` survive a crash. Windows has no such call, and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refused(error: OSError, path: str, wanted: int | None = None) -> NoReturn:
    """Say what the system refused.

    :raises StorageFailed: always.
    """
    facts = None if wanted is None else f"{wanted} bytes"
    if error.errno in _NO_ROOM:
        raise StorageFailed(
            f"there is no room left for {path}: {error.strerror}", wanted=facts, advice="Make room and put it again"
        ) from None
    raise StorageFailed(f"{path}: {error.strerror or error}", wanted=facts) from None


def _write_synced(path: str, value: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600)
    try:
        rest = memoryview(value)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
