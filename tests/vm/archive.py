"""An initial file system for a kernel, in the "newc" format of cpio.

https://docs.kernel.org/driver-api/early-userspace/buffer-format.html
"""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

import attrs

MAGIC: Final = b"070701"
END: Final = "TRAILER!!!"
ALIGNMENT: Final = 4


@attrs.define
class Archive:
    """Writes members one after the other; folders above a member are made on the way.

    Archives can be put behind one another: the kernel unpacks each, and a later member replaces an earlier one.
    """

    _stream: BinaryIO
    _known: set[PurePosixPath] = attrs.field(factory=set)

    def folder(self, path: str | PurePosixPath) -> None:
        """Add a folder, if it is not there yet."""
        path = PurePosixPath(path)
        if path.parent != path and path not in self._known:
            self.folder(path.parent)
            self._known.add(path)
            self._member(path, stat.S_IFDIR | 0o755, b"")

    def file(self, path: str | PurePosixPath, content: bytes, *, executable: bool = False) -> None:
        """Add a file."""
        self._leaf(path, stat.S_IFREG | (0o755 if executable else 0o644), content)

    def link(self, path: str | PurePosixPath, target: str) -> None:
        """Add a symbolic link."""
        self._leaf(path, stat.S_IFLNK | 0o777, os.fsencode(target))

    def copy(self, source: Path, path: str | PurePosixPath) -> None:
        """Add what a file holds, whatever links lead to it."""
        self.file(path, source.read_bytes(), executable=os.access(source, os.X_OK))

    def tree(self, source: Path, path: str | PurePosixPath) -> None:
        """Add every file below a folder."""
        for file in sorted(source.rglob("*")):
            if file.is_file():
                self.copy(file, PurePosixPath(path) / file.relative_to(source).as_posix())

    def close(self) -> None:
        """Write the last member. The stream stays open."""
        self._member(PurePosixPath(END), 0, b"")

    def _leaf(self, path: str | PurePosixPath, mode: int, content: bytes) -> None:
        path = PurePosixPath(path)
        self.folder(path.parent)
        self._member(path, mode, content)

    def _member(self, path: PurePosixPath, mode: int, content: bytes) -> None:
        name = os.fsencode(str(path).lstrip("/")) + b"\0"
        # ino, mode, uid, gid, nlink, mtime, filesize, device and rdevice in two halves each, namesize, check
        numbers = (0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0)
        header = MAGIC + b"".join(b"%08x" % number for number in numbers) + name
        self._stream.write(padded(header) + padded(content))


def padded(data: bytes) -> bytes:
    """`data` with zeros up to the next multiple of four."""
    return data + b"\0" * (-len(data) % ALIGNMENT)
