"""Reading the records of a journal, and what came of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import attrs
from weighbridge_hookspecs import LeaseError

from .segments import HEADER_BYTES, Header, SegmentReader, list_segments, parse_header

Receive: TypeAlias = Callable[[int, bytes], object]


@attrs.frozen(kw_only=True)
class Replay:
    """What a replay read, and where and why it stopped."""

    records: int
    """Records that were handed over."""
    payload_bytes: int
    skipped: int
    """Records that were acknowledged already, or that came before the one asked for."""
    first: int | None
    """Sequence of the first record handed over; None if there was none."""
    last: int | None
    reason: str | None
    """Why it stopped before the end, in words; None if it came to the end."""
    segment: str | None
    """Name of the file in which it stopped; None at the end."""
    offset: int | None
    """Where in that file, in bytes; None at the end."""
    unread_bytes: int
    """What lies behind the place where it stopped, in this file and in later ones."""

    @property
    def is_whole(self) -> bool:
        """Whether it came to the end."""
        return self.reason is None


def read_journal(folder: str | os.PathLike[str], receive: Receive | None = None, *, after: int = 0) -> Replay:
    """Read a journal that nobody has open, and change nothing: `receive` gets sequence and payload of each record.

    Without `receive` this is a check of every record.

    :raises LeaseError: if the folder or a file in it cannot be read.
    """
    try:
        paths = list_segments(Path(folder))
        marks = [header.mark for path in paths if (header := header_of(path)) is not None]
    except OSError as error:
        raise disk_error("cannot be read", Path(folder), error) from None
    return replay_segments([(path, None) for path in paths], max([after, *marks]), receive)


def replay_segments(parts: Sequence[tuple[Path, int | None]], after: int, receive: Receive | None) -> Replay:
    """Read these segments, each up to its `end` in bytes, or to the end of the file.

    :param after: what comes up to this sequence is skipped.
    :raises LeaseError: if a file cannot be read.
    """
    progress = Progress(after, receive)
    for number, (path, end) in enumerate(parts):
        try:
            reader = SegmentReader(path, end=end)
        except OSError as error:
            raise disk_error(f"cannot be read at {path.name}", path.parent, error) from None
        with reader:
            progress.read(reader)
        if progress.reason is not None:
            behind = sum(size_of(path) if end is None else end for path, end in parts[number + 1 :])
            return progress.result(path.name, reader.offset, reader.end - reader.offset + behind)
    return progress.result(None, None, 0)


@attrs.define
class Progress:
    """How far a replay has come."""

    after: int
    receive: Receive | None
    records: int = 0
    payload_bytes: int = 0
    skipped: int = 0
    first: int | None = None
    last: int | None = None
    reason: str | None = None
    _seen: int | None = None

    def read(self, reader: SegmentReader) -> None:
        """Go through one segment, the next one in order."""
        if self._seen is not None and reader.header and reader.header.first != self._seen + 1:
            self.reason = f"the records {self._seen + 1} to {reader.header.first - 1} are missing"
            return
        for sequence, payload in reader:
            self._take(sequence, payload)
        self.reason = reader.reason
        self._seen = reader.last

    def _take(self, sequence: int, payload: bytes) -> None:
        if sequence <= self.after:
            self.skipped += 1
            return
        if self.receive is not None:
            self.receive(sequence, payload)
        self.first = self.first or sequence
        self.last = sequence
        self.records += 1
        self.payload_bytes += len(payload)

    def result(self, segment: str | None, offset: int | None, unread_bytes: int) -> Replay:
        """What was read, and the place at which it stopped."""
        return Replay(
            records=self.records,
            payload_bytes=self.payload_bytes,
            skipped=self.skipped,
            first=self.first,
            last=self.last,
            reason=self.reason,
            segment=segment,
            offset=offset,
            unread_bytes=unread_bytes,
        )


def header_of(path: Path) -> Header | None:
    """The header of a segment, or None if it is damaged."""
    with path.open("rb", buffering=0) as file:
        return parse_header(file.read(HEADER_BYTES) or b"")


def size_of(path: Path) -> int:
    """The size of a file in bytes."""
    return path.stat().st_size


def words(error: OSError | MemoryError) -> str:
    """What went wrong, without the names of files that an error text repeats."""
    if isinstance(error, MemoryError):
        return "out of memory"
    return error.strerror or str(error)


def disk_error(what: str, folder: Path, error: OSError) -> LeaseError:
    """The error for a disk that did not do what it was asked for; it holds text, not the system's error."""
    return LeaseError(
        f"the journal {folder} {what}: {words(error)}",
        step="lease",
        advice="Nothing durable was lost; see to the disk and try again",
    )
