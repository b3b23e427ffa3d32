"""The files of a journal: a header, then records with checksums, one after the other."""

from __future__ import annotations

import errno
import os
import re
import struct
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

import attrs
from weighbridge_hookspecs import LeaseError

HEADER_BYTES: Final = 64
RECORD_BYTES: Final = 16
MAX_PAYLOAD_BYTES: Final = 0xFFFF_FFFF

_MAGIC: Final = b"WBJRNL1\n"
_START: Final = struct.Struct("<8sQI")  # magic, first sequence, CRC-32 of both
_MARK: Final = struct.Struct("<QI")  # acknowledged up to, CRC-32 of it
# Two places that take turns: if the machine dies while one is written, the other one holds the mark before.
_MARKS_AT: Final = (32, 48)
_RECORD: Final = struct.Struct("<IIQ")  # payload bytes, CRC-32, sequence
_COVERED: Final = struct.Struct("<IQ")  # what the CRC-32 covers beside the payload
_NAME: Final = re.compile(r"(\d{20})\.wal")
_READ_AHEAD: Final = 256 * 1024
# IOV_MAX is 1024 on Linux and macOS, and a record takes two: https://man7.org/linux/man-pages/man2/writev.2.html
_BUFFERS_AT_ONCE: Final = 1000


def frame_head(sequence: int, payload_bytes: int, payload_crc: int) -> bytes:
    """What stands before a payload. The checksum is the CRC-32 of :func:`zlib.crc32`, payload first, then the head."""
    crc = zlib.crc32(_COVERED.pack(payload_bytes, sequence), payload_crc)
    return _RECORD.pack(payload_bytes, crc, sequence)


def segment_path(folder: Path, first: int) -> Path:
    """Where the segment lies whose first record has the sequence `first`."""
    return folder / f"{first:020d}.wal"


def list_segments(folder: Path) -> list[Path]:
    """The segments of a folder, the oldest first; other files are not looked at."""
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def named_first(path: Path) -> int:
    """The first sequence, as the name of a segment says it."""
    return int(path.stem)


@attrs.frozen(kw_only=True)
class Header:
    """What stands at the start of a segment."""

    first: int
    """Sequence of its first record, or a smaller one if the segment was emptied since."""
    mark: int
    """Everything up to this sequence was acknowledged; 0 if nothing was."""
    slot: int
    """Which of the two places holds the mark."""


def parse_header(raw: bytes) -> Header | None:
    """The header in these bytes, or None if they are damaged or too few."""
    if len(raw) < HEADER_BYTES:
        return None
    magic, first, crc = _START.unpack_from(raw)
    if magic != _MAGIC or crc != zlib.crc32(raw[: _START.size - 4]):
        return None
    marks = [_MARK.unpack_from(raw, place) for place in _MARKS_AT]
    valid = [mark if crc == zlib.crc32(_COVERED.pack(0, mark)) else 0 for mark, crc in marks]
    return Header(first=first, mark=max(valid), slot=valid.index(max(valid)))


def _pack_mark(mark: int) -> bytes:
    return _MARK.pack(mark, zlib.crc32(_COVERED.pack(0, mark)))


def _pack_header(first: int, mark: int) -> bytes:
    start = _MAGIC + first.to_bytes(8, "little")
    start += zlib.crc32(start).to_bytes(4, "little")
    return (start.ljust(_MARKS_AT[0], b"\0") + _pack_mark(mark)).ljust(HEADER_BYTES, b"\0")


class SegmentReader:
    """The records of one segment, in order, up to its end or to the first that is torn.

    After the iteration `reason` says why it stopped (None at the end), `offset` where, and `last` after which sequence.
    """

    def __init__(self, path: Path, *, end: int | None = None) -> None:
        self.path: Final = path
        self._file: BinaryIO = path.open("rb", buffering=_READ_AHEAD)
        self.end: Final = os.fstat(self._file.fileno()).st_size if end is None else end
        self.header: Final = parse_header(self._file.read(HEADER_BYTES))
        self.offset = HEADER_BYTES if self.header else 0
        self.reason = None if self.header else "the header of the segment is damaged"
        self.last = max(self.header.first - 1, self.header.mark) if self.header else 0

    def __enter__(self) -> SegmentReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Sequence and payload of each record."""
        if self.header is None:
            return
        # A segment that was emptied where it stands goes on after its mark.
        expected = range(self.header.first, max(self.header.first, self.header.mark + 1) + 1)
        while self.reason is None and self.offset < self.end:
            try:
                found = self._read(expected)
            except OSError as error:  # not "torn": what cannot be read now may be sound
                raise LeaseError(
                    f"{self.path} cannot be read at byte {self.offset}: {error.strerror}",
                    step="lease",
                    advice="See to the disk and try again; nothing was cut off",
                ) from None
            if isinstance(found, str):
                self.reason = found
                return
            sequence, payload = found
            self.offset += RECORD_BYTES + len(payload)
            self.last = sequence
            expected = range(sequence + 1, sequence + 2)
            yield sequence, payload

    def _read(self, expected: range) -> tuple[int, bytes] | str:
        left = self.end - self.offset - RECORD_BYTES
        head = self._file.read(RECORD_BYTES) if left >= 0 else b""
        if len(head) < RECORD_BYTES:
            return f"{left + RECORD_BYTES} bytes are left, too few for the head of a record"
        length, crc, sequence = _RECORD.unpack(head)
        if length > left:  # looked at before the bytes are read: a torn length may say 4 GiB
            return f"the record says {length} bytes, and {left} are there"
        payload = self._file.read(length)
        if len(payload) < length or crc != zlib.crc32(_COVERED.pack(length, sequence), zlib.crc32(payload)):
            return "the checksum of the record is wrong"
        if sequence not in expected:
            return f"the record has the sequence {sequence} instead of {expected[-1]}"
        return sequence, payload


class ActiveSegment:
    """The one segment that is written to. Not thread-safe: its journal lets one thread at a time touch it."""

    def __init__(self, path: Path, header: Header, *, end: int, last: int) -> None:
        self.path: Final = path
        self.first: Final = header.first
        self.last = last
        """Sequence of the last durable record, in this segment or before it."""
        self.end = end
        """Bytes that are durable; after a failed write the file is cut back to them."""
        self._slot = header.slot
        self._fd = os.open(path, os.O_RDWR)

    @classmethod
    def create(cls, folder: Path, first: int, mark: int) -> ActiveSegment:
        """A new one. Its header is durable when this returns, so a damaged header is never the work of a crash."""
        path = segment_path(folder, first)
        if path.exists() and path.stat().st_size <= HEADER_BYTES:
            path.unlink()  # left by a creation that was interrupted; no record is in it
        try:
            with open(path, "xb", buffering=0, opener=_private) as file:
                header = _pack_header(first, mark)
                _write_all(file.fileno(), [header])
                sync_file(file.fileno())
            sync_folder(folder)
            return cls(path, Header(first=first, mark=mark, slot=0), end=HEADER_BYTES, last=first - 1)
        except FileExistsError:
            raise
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    @property
    def is_empty(self) -> bool:
        """Whether there is no durable record in it."""
        return self.end == HEADER_BYTES

    def write(self, frames: Sequence[tuple[bytes, bytes]], last: int) -> None:
        """Append heads and payloads, the last of which has the sequence `last`; durable when this returns."""
        os.lseek(self._fd, self.end, os.SEEK_SET)
        buffers = [buffer for frame in frames for buffer in frame if buffer]
        for start in range(0, len(buffers), _BUFFERS_AT_ONCE):
            _write_all(self._fd, buffers[start : start + _BUFFERS_AT_ONCE])
        sync_file(self._fd)
        if not os.fstat(self._fd).st_nlink:
            raise FileNotFoundError(errno.ENOENT, "The file was removed while the journal was open", str(self.path))
        self.end += sum(map(len, buffers))
        self.last = last

    def acknowledge(self, mark: int) -> None:
        """Keep `mark` in the header; durable when this returns."""
        os.lseek(self._fd, _MARKS_AT[1 - self._slot], os.SEEK_SET)
        _write_all(self._fd, [_pack_mark(mark)])
        sync_file(self._fd)
        self._slot = 1 - self._slot

    def cut(self) -> None:
        """Drop what was written after the durable records."""
        os.ftruncate(self._fd, self.end)
        sync_file(self._fd)

    def empty(self) -> None:
        """Drop every record; all of them must be acknowledged."""
        os.ftruncate(self._fd, HEADER_BYTES)
        self.end = HEADER_BYTES

    def close(self) -> None:
        """Close the file. Closing twice does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write_all(fd: int, buffers: Sequence[bytes]) -> None:
    """Write all of it; a short write goes on where it ended."""
    views = [memoryview(buffer) for buffer in buffers]
    while views:
        written = os.writev(fd, views) if hasattr(os, "writev") else os.write(fd, views[0])
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if views:
            views[0] = views[0][written:]


def sync_file(fd: int) -> None:
    """Have the system put a file onto its disk; on macOS ``fsync`` alone leaves it in the drive's cache.

    https://developer.apple.com/library/archive/documentation/System/Conceptual/ManPages_iPhoneOS/man2/fsync.2.html
    """
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(fd)


def sync_folder(folder: Path) -> None:
    """Have the system put the names in a folder onto its disk."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
