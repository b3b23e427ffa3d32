"""What the service manager says: ``MEMORY_PRESSURE_WATCH`` and ``MEMORY_PRESSURE_WRITE``.

https://systemd.io/MEMORY_PRESSURE/: a path to wait on, and text in Base64 to write into it first. The path is a file of
the kernel, a FIFO, a socket, or /dev/null, by which the operator says that nobody is to watch.
"""

from __future__ import annotations

import base64
import binascii
import os
import select
import socket
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs

from ..files import read_bytes
from .descriptor import DescriptorSource
from .psi import PsiSource, Trigger, parse_total, parse_trigger
from .source import Pressure, Source, SourceGone

WATCH: Final = "MEMORY_PRESSURE_WATCH"
WRITE: Final = "MEMORY_PRESSURE_WRITE"
_OFF: Final = "/dev/null"
_CHUNK: Final = 4096
_UNKNOWN: Final = Trigger("some", 1, 1)


@attrs.frozen
class Wish:
    """What the environment asks for."""

    path: str
    write: bytes = b""

    @property
    def is_off(self) -> bool:
        """Whether nobody is to watch."""
        return self.path == _OFF


def read_wish(environ: Mapping[str, str]) -> Wish | None:
    """What the variables say; None if they say nothing.

    :raises ValueError: if they make no sense; the text says which and why.
    """
    path = environ.get(WATCH)
    if not path:
        return None
    if not os.path.isabs(path) or "\0" in path:
        raise ValueError(f"{WATCH} is {path!r}, which is no absolute path")
    try:
        return Wish(path, base64.b64decode(environ.get(WRITE, ""), validate=True))
    except (binascii.Error, ValueError):
        raise ValueError(f"{WRITE} is not Base64") from None


def open_wish(wish: Wish, root: Path = Path("/")) -> Source:
    """Open what was asked for, and write what was asked for.

    :raises OSError: if that fails.
    :raises ValueError: if it is nothing that one can wait on.
    """
    path = root / wish.path.lstrip("/")
    mode = path.stat().st_mode
    if stat.S_ISREG(mode):
        return _open_file(path, wish.write)
    if stat.S_ISFIFO(mode):
        # Open for writing as well, or it would count as closed whenever no writer is there.
        return StreamSource(str(path), _written(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC), wish.write))
    if stat.S_ISSOCK(mode):
        return StreamSource(str(path), _written(_connect(path), wish.write))
    raise ValueError(f"{path} is neither a file nor a FIFO nor a socket")


class StreamSource(DescriptorSource):
    """A FIFO or a socket: whatever comes means that memory is short. What it says has no meaning.

    An end is an end of the socket: a FIFO that is open for writing here never has one.
    """

    def __init__(self, name: str, descriptor: int) -> None:
        super().__init__(descriptor)
        self._name = name

    @property
    def name(self) -> str:
        """The path."""
        return self._name

    @property
    def mask(self) -> int:
        """Something to read."""
        return select.POLLIN

    def look(self, events: int) -> Pressure | None:
        """Read all that is there: many messages are one event.

        :raises SourceGone: if the other side has gone.
        """
        came = self._drain()
        if came:
            return Pressure(level="elevated", source=self._name, evidence=f"{came} bytes came")
        if events & (select.POLLERR | select.POLLNVAL):
            raise SourceGone(f"{self._name} is broken")
        return None

    def _drain(self) -> int:
        """How many bytes were there.

        :raises SourceGone: if it cannot be read any more, or the other side has closed and nothing was left.
        """
        came = 0
        try:
            while part := os.read(self._readable(), _CHUNK):
                came += len(part)
        except BlockingIOError:
            return came
        except OSError as error:
            raise SourceGone(f"{self._name}: {error.strerror}") from None
        if not came:
            raise SourceGone(f"{self._name} was closed")
        return came

    def _readable(self) -> int:
        if self._descriptor is None:
            raise SourceGone(f"{self._name} was given back")
        return self._descriptor


def _open_file(path: Path, write: bytes) -> Source:
    how = os.O_RDWR if write else os.O_RDONLY
    descriptor = _written(os.open(path, how | os.O_NONBLOCK | os.O_CLOEXEC), write)
    # Without a trigger that is understood every event counts.
    trigger = parse_trigger(write) or _UNKNOWN
    known = trigger is not _UNKNOWN
    return PsiSource(
        path, trigger, "elevated", descriptor, lambda: parse_total(read_bytes(path), trigger.kind) if known else None
    )


def _connect(path: Path) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(os.fspath(path))
        connection.setblocking(False)
        return connection.detach()


def _written(descriptor: int, content: bytes) -> int:
    """Write `content`, all at one go; the descriptor again."""
    try:
        if content and os.write(descriptor, content) != len(content):
            raise OSError("not everything was written")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
