"""An append-only buffer on disk: what was appended survives a crash, within a fixed number of bytes.

Records lie in segments (see :mod:`weighbridge.leases.segments`), and are read by :mod:`weighbridge.leases.replay`.
Appenders that come at the same time share one ``fsync``: whoever finds the files free writes what all of them brought,
and the others wait for it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, TypeAlias, overload

import attrs
from weighbridge_hookspecs import CeilingExceeded, ConfigurationError, LeaseError, Saturated

from .folder import lock_folder, make_folder, unlock
from .replay import Progress, Receive, Replay, disk_error, header_of, replay_segments, size_of, words
from .segments import (
    HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    RECORD_BYTES,
    ActiveSegment,
    SegmentReader,
    frame_head,
    list_segments,
    named_first,
    sync_folder,
)

AtCap: TypeAlias = Literal["reject", "block"]

MAX_BYTES: Final = 1024 * 1024 * 1024
MEMORY_BYTES: Final = 8 * 1024 * 1024
_LEAST_BYTES: Final = 4096
_LARGEST_SEGMENT: Final = 64 * 1024 * 1024
_RETRY_SECONDS: Final = 1.0
_log: Final = logging.getLogger("weighbridge.journal")


@attrs.frozen(kw_only=True)
class JournalStatistics:
    """What a journal holds, and what appending to it came to so far."""

    max_bytes: int
    disk_bytes: int
    """Bytes of its segments."""
    memory_bytes: int
    """Bytes of records that are not durable yet."""
    peak_bytes: int
    """The most that disk and memory held together."""
    segments: int
    acknowledged: int
    """Everything up to this sequence was acknowledged."""
    durable: int
    """Sequence of the last durable record; 0 if there was none."""
    appended: int
    """Records that became durable since the journal was opened."""
    commits: int
    """Writes that ended with an ``fsync``; several records share one."""
    rejected: int
    """Appends that found no room."""
    waited: int
    """Appends that had to wait for room at the cap."""
    failed: int
    """Records that could not be written."""


@attrs.define(eq=False)
class _Entry:
    """A record on its way to the disk."""

    sequence: int
    frame: tuple[bytes, bytes]
    opens: bool
    done: bool = False
    error: str | None = None

    @property
    def nbytes(self) -> int:
        return RECORD_BYTES + len(self.frame[1])

    @property
    def needs(self) -> int:
        """Bytes that it takes on disk: a record that opens a segment brings the header."""
        return self.nbytes + HEADER_BYTES * self.opens


@attrs.frozen
class _Sealed:
    """A segment that is not written to any more."""

    path: Path
    last: int
    nbytes: int


class Ticket:
    """A record that was taken, and may not be durable yet."""

    def __init__(self, entry: _Entry, wait: Callable[[_Entry], None]) -> None:
        self._entry = entry
        self._wait = wait

    def __repr__(self) -> str:
        state = "failed" if self._entry.error else "durable" if self._entry.done else "pending"
        return f"<Ticket {state}>"

    @property
    def is_durable(self) -> bool:
        """Whether the record would survive a crash now."""
        return self._entry.done and self._entry.error is None

    def wait(self) -> int:
        """Wait until the record is durable, and give its sequence.

        :raises LeaseError: if it could not be written; it is not in the journal then.
        """
        self._wait(self._entry)
        if self._entry.error is not None:
            raise LeaseError(
                f"a record was not written: {self._entry.error}",
                step="lease",
                advice="Append it again once the disk has room and is sound",
            )
        return self._entry.sequence


class Journal:
    """A write-ahead journal in a folder of its own. Thread-safe; one journal has the folder at a time.

    :param folder: is made if it is not there.
    :param max_bytes: what records and headers may take at most, on disk and in memory together. A record counts twice
        while it is written. A folder that holds more already is opened, and takes nothing until it was truncated.
    :param at_cap: ``"reject"`` raises at the cap, ``"block"`` waits for :meth:`truncate`, first come first served.
    :param memory_bytes: what may wait in memory for the disk; an append beyond it waits for the disk.
    :param segment_bytes: size from which a new segment is begun. Disk is given back segment by segment.
    :raises ConfigurationError: if a setting or the folder makes no sense.
    :raises LeaseError: if another journal has the folder, or its newest segment has a damaged header.
    :raises ServiceUnavailable: on a system without ``flock``.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        max_bytes: int = MAX_BYTES,
        at_cap: AtCap = "reject",
        memory_bytes: int = MEMORY_BYTES,
        segment_bytes: int | None = None,
    ) -> None:
        _check_size("max_bytes", max_bytes, _LEAST_BYTES)
        _check_size("memory_bytes", memory_bytes, 1)
        if segment_bytes is None:
            segment_bytes = max(1024, min(max_bytes // 16, _LARGEST_SEGMENT))
        _check_size("segment_bytes", segment_bytes, HEADER_BYTES + RECORD_BYTES)
        if at_cap not in ("reject", "block"):
            raise ConfigurationError(f"at_cap is {at_cap!r}", advice='Set it to "reject" or "block"')
        self.folder: Final = make_folder(folder)
        self.max_bytes: Final = max_bytes
        self.at_cap: Final = at_cap
        self.memory_bytes: Final = memory_bytes
        self.segment_bytes: Final = segment_bytes
        self._pid = os.getpid()
        self._changed = threading.Condition(threading.Lock())
        self._pending: deque[_Entry] = deque()
        self._waiting: deque[object] = deque()
        self._memory = self._promised = self._peak = self._readers = 0
        self._appended = self._commits = self._rejected = self._waited = self._failed = 0
        self._disk = self._tail = self._mark = self._durable = 0
        self._next = 1
        self._busy = self._closed = False
        self._broken: str | None = None
        self._writer: threading.Thread | None = None
        self._lock_fd = lock_folder(self.folder)
        try:
            self._open()
        except OSError as error:
            self._let_go()
            raise disk_error("could not be opened", self.folder, error) from None
        except BaseException:
            self._let_go()
            raise

    def _open(self) -> None:
        paths = list_segments(self.folder)
        first = _drop_stillborn(paths)
        self._sealed = deque(_Sealed(path, named_first(later) - 1, size_of(path)) for path, later in pairwise(paths))
        marks = [header.mark for path in paths if (header := header_of(path)) is not None]
        self._mark = max(marks, default=0)
        if paths:
            self.recovered, self._active = _reopen(paths[-1])
        else:
            self.recovered, self._active = replay_segments([], 0, None), ActiveSegment.create(self.folder, first, 0)
        self._sweep()
        self._durable = max(self._active.last, self._mark)
        self._measure()

    recovered: Replay
    """What opening found in the newest segment. A torn tail, which a crash leaves, was cut off; `reason` says so."""

    # -- appending -------------------------------------------------------------------------------------------------

    @overload
    def append(
        self, payload: bytes | bytearray | memoryview, *, wait: Literal[True] = ..., timeout_seconds: float | None = ...
    ) -> int: ...
    @overload
    def append(
        self, payload: bytes | bytearray | memoryview, *, wait: Literal[False], timeout_seconds: float | None = ...
    ) -> Ticket: ...
    @overload
    def append(
        self, payload: bytes | bytearray | memoryview, *, wait: bool, timeout_seconds: float | None = ...
    ) -> int | Ticket: ...
    def append(
        self, payload: bytes | bytearray | memoryview, *, wait: bool = True, timeout_seconds: float | None = None
    ) -> int | Ticket:
        """Append a record and give its sequence once it survives a crash; with ``wait=False`` a ticket, at once.

        What was not waited for is written by a thread of the journal's, which is there only as long as it has work.

        :param timeout_seconds: how long to wait for room at the cap under ``"block"``; None waits for ever.
        :raises Saturated: if there is no room, or none in time.
        :raises CeilingExceeded: if there would be no room in an empty journal either.
        :raises LeaseError: if the disk does not take it, or the journal is closed.
        """
        if not isinstance(payload, bytes | bytearray | memoryview):
            raise TypeError(f"a record is bytes, not {type(payload).__name__}: encode it first")
        content = bytes(payload)  # a copy only of what may still change
        crc = zlib.crc32(content)
        self._check_process()
        with self._room(len(content), timeout_seconds) as opens:
            entry = self._enter(content, crc, opens)
        ticket = Ticket(entry, self._settle)
        if wait:
            return ticket.wait()
        self._write_behind()
        return ticket

    def _enter(self, content: bytes, crc: int, opens: bool) -> _Entry:
        entry = _Entry(self._next, (frame_head(self._next, len(content), crc), content), opens)
        self._next += 1
        self._pending.append(entry)
        self._memory += entry.nbytes
        self._promised += entry.needs
        self._tail = HEADER_BYTES + entry.nbytes if opens else self._tail + entry.nbytes
        self._peak = max(self._peak, self._disk + self._promised + self._memory)
        return entry

    @contextmanager
    def _room(self, payload_bytes: int, timeout_seconds: float | None) -> Iterator[bool]:
        """Hold the lock with room for a record; gives whether it opens a segment. First come, first served."""
        nbytes = RECORD_BYTES + payload_bytes
        if HEADER_BYTES + 2 * nbytes > self.max_bytes or payload_bytes > MAX_PAYLOAD_BYTES:
            raise CeilingExceeded(
                f"a record of {payload_bytes} bytes does not fit into a journal of {self.max_bytes}",
                wanted_bytes=2 * nbytes,
                ceiling_bytes=self.max_bytes,
                advice="Split the record, or raise max_bytes: a record counts twice while it is written",
            )
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        turn = object()
        with self._changed:
            self._waiting.append(turn)
            try:
                yield self._wait_for_room(turn, nbytes, deadline)
            finally:
                self._waiting.remove(turn)
                if self._waiting:
                    self._changed.notify_all()

    def _wait_for_room(self, turn: object, nbytes: int, deadline: float | None) -> bool:
        counted = False
        while True:
            self._check_open()
            opens = self._tail > HEADER_BYTES and self._tail + nbytes > self.segment_bytes
            total = self._disk + self._promised + nbytes + HEADER_BYTES * opens
            first = self._waiting[0] is turn
            if total + nbytes > self.max_bytes and (first or self.at_cap == "reject"):
                self._wait_at_cap(nbytes, deadline, counted)
                counted = True
            elif not first:
                self._wait_until(nbytes, deadline)
            elif self._memory and (
                self._memory + nbytes > self.memory_bytes or total + self._memory + nbytes > self.max_bytes
            ):
                self._drain()
            else:
                return opens

    def _wait_at_cap(self, nbytes: int, deadline: float | None, counted: bool) -> None:
        if self.at_cap == "reject":
            raise self._saturated(nbytes, "has no room")
        self._waited += not counted
        self._wait_until(nbytes, deadline)

    def _wait_until(self, nbytes: int, deadline: float | None) -> None:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise self._saturated(nbytes, "got no room in time")
        self._changed.wait(None if left is None else min(left, threading.TIMEOUT_MAX))

    def _saturated(self, nbytes: int, what: str) -> Saturated:
        self._rejected += 1
        return Saturated(
            f"the journal {self.folder} {what}: wanted {nbytes} bytes, holds {self._disk + self._promised} of "
            f"{self.max_bytes}; truncate what was dealt with, and append again",
            retry_after_seconds=_RETRY_SECONDS,
        )

    # -- writing ---------------------------------------------------------------------------------------------------

    def _settle(self, entry: _Entry) -> None:
        """Wait until this record is durable or failed; write what is pending if nobody else does."""
        self._check_process()
        with self._changed:
            while not entry.done:
                self._drain()

    def _drain(self) -> None:
        """Write what is pending, or wait for whoever writes now. Called, and left, with the lock held."""
        if self._busy:
            self._changed.wait()
            return
        batch, self._pending = list(self._pending), deque()
        self._busy = True
        self._changed.release()
        try:
            error = self._write(batch)
        except BaseException:  # Ctrl-C, or a thread that is made to stop: others write what is left
            self._changed.acquire()
            self._finish(batch, None)
            raise
        self._changed.acquire()
        self._finish(batch, error)

    def _write(self, batch: list[_Entry]) -> str | None:
        """Write, a segment at a time; what went wrong, in words. The last durable sequence tells how far it came."""
        try:
            for group in _by_segment(batch):
                if group[0].opens and not self._active.is_empty:
                    self._rotate(group[0].sequence)
                self._active.write([entry.frame for entry in group], group[-1].sequence)
                self._commits += 1
        except (OSError, MemoryError) as error:
            self._cut()
            return words(error)
        except BaseException:
            self._cut()
            raise
        return None

    def _rotate(self, first: int) -> None:
        fresh = ActiveSegment.create(self.folder, first, self._mark)
        old, self._active = self._active, fresh
        self._sealed.append(_Sealed(old.path, old.last, old.end))
        old.close()

    def _cut(self) -> None:
        """Take back a write that failed. Where even that fails, nothing more may be appended."""
        try:
            self._active.cut()
        except OSError as error:
            self._broken = words(error)

    def _finish(self, batch: list[_Entry], error: str | None) -> None:
        """Tell everybody how the write ended. An error ends the records that came meanwhile as well: the order holds.

        Without an error, what was not written goes back to be written by the next one.
        """
        self._busy = False
        self._durable = max(self._durable, self._active.last)
        left = [entry for entry in batch if entry.sequence > self._durable]
        written = batch[: len(batch) - len(left)]
        self._appended += len(written)
        if error is None and self._broken is None:
            self._pending.extendleft(reversed(left))
            left = []
        else:
            left += self._pending
            self._pending.clear()
            self._fail(left, error or self._broken or "")
        self._release([*written, *left])
        self._measure()
        self._changed.notify_all()

    def _fail(self, entries: list[_Entry], error: str) -> None:
        for entry in entries:
            entry.error = error
        self._failed += len(entries)
        if entries:
            _log.error("%s: %d records were not written: %s", self.folder, len(entries), error)

    def _release(self, entries: Iterable[_Entry]) -> None:
        for entry in entries:
            self._memory -= entry.nbytes
            self._promised -= entry.needs
            entry.frame = (b"", b"")
            entry.done = True

    def _measure(self) -> None:
        """Set what is counted to what is there."""
        self._disk = self._disk_now()
        self._peak = max(self._peak, self._disk + self._promised + self._memory)
        if not self._pending:
            self._tail = self._active.end
            self._next = self._durable + 1

    def _disk_now(self) -> int:
        return sum(segment.nbytes for segment in self._sealed) + self._active.end

    def _write_behind(self) -> None:
        with self._changed:
            if self._writer is not None or not self._pending:
                return
            writer = threading.Thread(target=self._write_pending, name="weighbridge-journal", daemon=True)
            try:
                writer.start()
            except RuntimeError:  # the system gives no more threads
                self._drain()
            else:
                self._writer = writer

    def _write_pending(self) -> None:
        with self._changed:
            try:
                while self._pending:
                    self._drain()
            finally:
                self._writer = None

    # -- acknowledging ---------------------------------------------------------------------------------------------

    def truncate(self, up_to: int) -> int:
        """Acknowledge every record up to this sequence: it is not replayed again. Gives the bytes of disk freed.

        Durable when it returns. Disk comes back segment by segment; once everything is acknowledged, all of it does.

        :raises ValueError: if that record is not durable, or not there.
        :raises LeaseError: if the disk does not take it, or the journal is closed.
        """
        if not isinstance(up_to, int) or isinstance(up_to, bool):
            raise TypeError(f"a sequence is a whole number, not {type(up_to).__name__}")
        with self._alone():
            if not 0 <= up_to <= self._durable:
                raise ValueError(f"{up_to} cannot be truncated: durable records end at {self._durable}")
            if up_to <= self._mark:
                return 0
            try:
                self._active.acknowledge(up_to)
                self._mark = up_to
                self._sweep()
            except OSError as error:
                raise disk_error(f"could not be truncated up to {up_to}", self.folder, error) from None
            return self._disk - self._disk_now()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Touch the files while nobody else does, without the lock."""
        self._check_process()
        with self._changed:
            self._check_open()
            while self._busy:
                self._changed.wait()
                self._check_open()
            self._busy = True
        try:
            yield
        finally:
            with self._changed:
                self._busy = False
                self._measure()
                self._changed.notify_all()

    def _sweep(self) -> None:
        """Give back the disk of what was acknowledged; not under the eyes of a replay, whose end does it."""
        if self._readers:
            return
        while self._sealed and self._sealed[0].last <= self._mark:
            self._sealed[0].path.unlink(missing_ok=True)
            self._sealed.popleft()
        if not self._sealed and self._active.last <= self._mark and not self._active.is_empty:
            self._active.empty()

    # -- reading ---------------------------------------------------------------------------------------------------

    def replay(self, receive: Receive, *, after: int = 0) -> Replay:
        """Call `receive` with sequence and payload of every durable record that was not acknowledged, in order.

        It sees what was durable when it began. Appending and truncating go on meanwhile, from `receive` as well; what
        is truncated during a replay gives its disk back at the end of it.

        :param after: begin behind this sequence.
        :raises LeaseError: if the journal is closed, or its files cannot be read.
        """
        with self._alone():
            self._readers += 1
            parts = [(segment.path, segment.nbytes) for segment in self._sealed]
            parts.append((self._active.path, self._active.end))
            after = max(after, self._mark)
        try:
            return replay_segments(parts, after, receive)
        finally:
            self._end_replay()

    def _end_replay(self) -> None:
        try:
            with self._alone():
                self._readers -= 1
                self._sweep()
        except LeaseError:
            pass  # closed meanwhile: the next one that opens it sweeps
        except OSError as error:
            _log.warning("%s: acknowledged segments stay until the next truncation: %s", self.folder, words(error))

    def statistics(self) -> JournalStatistics:
        """What it holds now."""
        self._check_process()
        with self._changed:
            return JournalStatistics(
                max_bytes=self.max_bytes,
                disk_bytes=self._disk,
                memory_bytes=self._memory,
                peak_bytes=self._peak,
                segments=len(self._sealed) + 1,
                acknowledged=self._mark,
                durable=self._durable,
                appended=self._appended,
                commits=self._commits,
                rejected=self._rejected,
                waited=self._waited,
                failed=self._failed,
            )

    # -- the end ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Write what is pending, end the thread, close every file and give the folder free. Closing twice does nothing.

        The records stay on disk. Everything is given back even if the last write fails.

        :raises LeaseError: if a record that nobody waited for could not be written.
        """
        if os.getpid() != self._pid:
            self._let_go()
            return
        with self._changed:
            if self._closed:
                return
            self._closed = True  # from here on nobody gets in; whoever waits at the cap is told
            self._changed.notify_all()
            failed_before = self._failed
            try:
                while self._pending or self._busy:
                    self._drain()
            finally:
                writer = self._writer
                self._let_go()
            failed = self._failed - failed_before
        if writer is not None and writer is not threading.current_thread():
            writer.join()
        if failed:
            raise LeaseError(f"{failed} records were not written to {self.folder} when it was closed", step="lease")

    release = close

    def _let_go(self) -> None:
        """Close the files. In a forked child the lock stays with the parent: closing does not unlock it there."""
        active = getattr(self, "_active", None)
        if active is not None:
            active.close()
        fd, self._lock_fd = self._lock_fd, -1
        if fd >= 0:
            unlock(fd, mine=os.getpid() == self._pid)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_lock_fd", -1) >= 0 and self._pid == os.getpid():
            import warnings

            warnings.warn(f"the journal {self.folder} was not closed", ResourceWarning, source=self, stacklevel=1)
            self._let_go()

    def __repr__(self) -> str:
        return f"<Journal {str(self.folder)!r} {'closed' if self._closed else 'open'}>"

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise LeaseError(
                f"the journal {self.folder} belongs to process {self._pid}, which forked this one",
                step="lease",
                advice="Open a journal in a folder of its own after the fork",
            )

    def _check_open(self) -> None:
        if self._closed:
            raise LeaseError(f"the journal {self.folder} is closed", step="lease", advice="Open it again")
        if self._broken is not None:
            raise LeaseError(
                f"the journal {self.folder} takes nothing more: a failed write could not be taken back: {self._broken}",
                step="lease",
                advice="Close it, see to the disk, and open it again; what was durable is still there",
            )


def _reopen(path: Path) -> tuple[Replay, ActiveSegment]:
    """Read the newest segment to its end and cut off what is torn: a crash can only tear what nobody was told of."""
    with SegmentReader(path) as reader:
        if reader.header is None:
            raise LeaseError(
                f"the header of {path} is damaged, and {reader.end} bytes lie in that file",
                step="lease",
                advice="No crash does that: restore the file, or move it away to open the journal without it",
            )
        progress = Progress(reader.header.mark, None)
        progress.read(reader)
        torn = progress.reason is not None
        found = progress.result(
            path.name if torn else None, reader.offset if torn else None, reader.end - reader.offset
        )
        active = ActiveSegment(path, reader.header, end=reader.offset, last=reader.last)
    try:
        if torn:
            active.cut()
    except BaseException:
        active.close()
        raise
    return found, active


def _drop_stillborn(paths: list[Path]) -> int:
    """Remove a newest segment that a crash left before its header was complete. Gives the sequence to begin with.

    No record can be in it, for the header is durable before the first record is written.
    """
    if not paths or size_of(paths[-1]) > HEADER_BYTES or header_of(paths[-1]) is not None:
        return 1
    path = paths.pop()
    path.unlink()
    sync_folder(path.parent)
    return named_first(path)


def _by_segment(batch: Iterable[_Entry]) -> Iterator[list[_Entry]]:
    group: list[_Entry] = []
    for entry in batch:
        if entry.opens and group:
            yield group
            group = []
        group.append(entry)
    if group:
        yield group


def _check_size(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigurationError(f"{name} is {value!r}", advice=f"Set it to a whole number of bytes, {least} or more")
