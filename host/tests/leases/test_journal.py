"""The journal: records in order, within a cap, acknowledged and replayed."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from weighbridge_hookspecs import CeilingExceeded, ConfigurationError, LeaseError, Saturated, ServiceUnavailable

from weighbridge.leases import segments
from weighbridge.leases.journal import Journal, Ticket
from weighbridge.leases.replay import Replay, read_journal
from weighbridge.leases.segments import HEADER_BYTES, RECORD_BYTES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def journal(folder: Path) -> Iterator[Journal]:
    with Journal(folder, max_bytes=64 * 1024, segment_bytes=4096) as opened:
        yield opened


def contents(journal: Journal, after: int = 0) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    journal.replay(lambda sequence, payload: found.append((sequence, payload)), after=after)
    return found


def files(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.wal"))


# -- records -----------------------------------------------------------------------------------------------------------


# snippet: journal
def test_what_was_appended_is_replayed_in_order(folder: Path) -> None:
    """After a reopening, a replay hands over what was appended and not acknowledged, oldest first."""
    with Journal(folder, max_bytes=1024 * 1024) as journal:
        journal.append(b"first")  # returns once it would survive a crash
        done = journal.append(b"second")
        tickets = [journal.append(b"n%d" % number, wait=False) for number in range(3)]
        assert [ticket.wait() for ticket in tickets] == [3, 4, 5]
        journal.truncate(done)
    left: list[tuple[int, bytes]] = []
    with Journal(folder, max_bytes=1024 * 1024) as journal:
        result = journal.replay(lambda sequence, payload: left.append((sequence, payload)))
    assert left == [(3, b"n0"), (4, b"n1"), (5, b"n2")]
    assert (result.records, result.skipped, result.is_whole) == (3, 2, True)


# end snippet


@pytest.mark.parametrize("payload", [b"", b"x", bytes(5000), bytearray(b"later"), memoryview(b"a view")])
def test_a_record_is_any_bytes(journal: Journal, payload: bytes) -> None:
    """Empty, larger than a segment, or of another type of bytes: it comes back as it was."""
    sequence = journal.append(payload)
    assert contents(journal) == [(sequence, bytes(payload))]


def test_what_changes_after_an_append_was_copied(journal: Journal) -> None:
    """A bytearray that its owner goes on with does not change the record."""
    content = bytearray(b"before")
    ticket = journal.append(content, wait=False)
    content[:] = b"behind"
    assert contents(journal, after=ticket.wait() - 1) == [(1, b"before")]


@pytest.mark.parametrize("payload", ["text", 7, None, [1]])
def test_a_record_of_another_type_says_what_to_do(journal: Journal, payload: Any) -> None:
    """Text is not encoded by guess."""
    with pytest.raises(TypeError, match="encode it first"):
        journal.append(payload)
    assert journal.statistics().durable == 0


def test_a_replay_begins_where_it_is_told(journal: Journal) -> None:
    """What comes before the sequence asked for is counted, and not handed over."""
    for number in range(5):
        journal.append(b"%d" % number)
    found: list[int] = []
    result = journal.replay(lambda sequence, _: found.append(sequence), after=3)
    assert (found, result.skipped, result.first, result.last, result.payload_bytes) == ([4, 5], 3, 4, 5, 2)


def test_what_a_receiver_raises_reaches_the_caller(journal: Journal) -> None:
    """An error of the receiver's, an OSError too, is not taken for one of the disk."""
    journal.append(b"x")

    def fail(_: int, __: bytes) -> None:
        raise FileNotFoundError("the receiver's")

    with pytest.raises(FileNotFoundError, match="receiver's"):
        journal.replay(fail)
    assert journal.truncate(1) > 0


def test_a_receiver_may_append_and_truncate(folder: Path) -> None:
    """A replay sees what was there when it began, whatever its receiver does to the journal meanwhile."""
    with Journal(folder, max_bytes=64 * 1024, segment_bytes=128) as journal:
        for number in range(20):
            journal.append(b"%d" % number)
        before = journal.statistics().segments

        def move(sequence: int, payload: bytes) -> None:
            journal.append(b"again " + payload)
            assert journal.truncate(sequence) == 0, "a file went while it was read"

        assert journal.replay(move).records == 20
        assert [payload for _, payload in contents(journal)] == [b"again %d" % number for number in range(20)]
        assert journal.statistics().segments < 2 * before


# -- the cap -----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 1500), max_size=40), st.integers(4096, 12000), st.integers(200, 3000))
def test_disk_and_memory_never_exceed_the_cap(sizes: list[int], cap: int, segment: int) -> None:
    """Whatever is appended, waited for or not: what the files and the memory hold stays within the cap."""
    with tempfile.TemporaryDirectory() as name, Journal(name, max_bytes=cap, segment_bytes=segment) as journal:
        kept = []
        for number, size in enumerate(sizes):
            try:
                kept.append((journal.append(bytes(size), wait=False), size))
            except Saturated:
                journal.truncate(kept[number // 2 % len(kept)][0].wait())
            drawn = journal.statistics()
            assert drawn.disk_bytes + drawn.memory_bytes <= cap
        assert [ticket.wait() for ticket, _ in kept] == list(range(1, len(kept) + 1))
        drawn = journal.statistics()
        assert drawn.peak_bytes <= cap
        assert (drawn.memory_bytes, drawn.disk_bytes) == (0, files(Path(name)))


def test_a_full_journal_rejects_and_takes_again_after_a_truncation(folder: Path) -> None:
    """At the cap an append is told to come back; nothing in the journal is dropped for it."""
    with Journal(folder, max_bytes=4096, segment_bytes=1024) as journal:
        count = (4096 - 4 * HEADER_BYTES - 116) // (100 + RECORD_BYTES)
        for _ in range(count):
            journal.append(bytes(100))
        with pytest.raises(Saturated, match="truncate what was dealt with") as caught:
            journal.append(bytes(100))
        assert caught.value.retry_after_seconds is not None
        assert len(contents(journal)) == count == journal.statistics().durable
        journal.truncate(count)
        assert journal.append(bytes(100)) == count + 1
        assert journal.statistics().rejected == 1


def test_a_record_that_can_never_fit_is_refused_at_once(folder: Path) -> None:
    """Even under the policy that waits: it would wait for ever."""
    with Journal(folder, max_bytes=4096, at_cap="block") as journal:
        with pytest.raises(CeilingExceeded, match="Split the record") as caught:
            journal.append(bytes(2048))
        assert caught.value.ceiling_bytes == 4096
        journal.append(bytes((4096 - HEADER_BYTES) // 2 - RECORD_BYTES))


def test_a_blocked_append_goes_on_after_a_truncation(folder: Path) -> None:
    """At the cap an append waits until somebody acknowledges; those that wait are served in their order."""
    with Journal(folder, max_bytes=4096, at_cap="block") as journal:
        first = journal.append(bytes(1900))
        second = journal.append(bytes(60))
        served: list[int] = []
        threads = []

        def append(nbytes: int) -> None:
            served.append(journal.append(bytes(nbytes)))

        def waiting(count: int) -> Callable[[], bool]:
            return lambda: len(journal._waiting) == count

        def durable(sequence: int) -> Callable[[], bool]:
            return lambda: journal.statistics().durable >= sequence

        for number in range(3):
            thread = threading.Thread(target=append, args=(1200 + number,))
            thread.start()
            threads.append(thread)
            wait_for(waiting(number + 1))
        assert not served
        journal.truncate(second)
        wait_for(lambda: len(served) >= 1)
        wait_for(lambda: journal.statistics().waited == 2)
        for sequence in (3, 4):
            wait_for(durable(sequence))
            journal.truncate(sequence)
        for thread in threads:
            thread.join()
        found = contents(journal)
        assert (first, second, sorted(served)) == (1, 2, [3, 4, 5])
        assert [len(payload) for _, payload in found] == [1202]


def wait_for(happened: Callable[[], bool]) -> None:
    waiter = threading.Event()
    while not happened():
        waiter.wait(0.002)


def test_a_blocked_append_can_give_up(folder: Path) -> None:
    """With a time limit, waiting for room ends in the same error as a rejection, and leaves the queue."""
    with Journal(folder, max_bytes=4096, at_cap="block") as journal:
        journal.append(bytes(1900))
        with pytest.raises(Saturated, match="in time"):
            journal.append(bytes(1900), timeout_seconds=0.01)
        assert (journal.append(bytes(60)), len(journal._waiting)) == (2, 0)


def test_closing_tells_who_waits_at_the_cap(folder: Path) -> None:
    """A thread that waits for room does not wait for ever when the journal is taken away."""
    journal = Journal(folder, max_bytes=4096, at_cap="block")
    journal.append(bytes(1900))
    errors: list[str] = []

    def append() -> None:
        try:
            journal.append(bytes(1900))
        except LeaseError as error:
            errors.append(error.message)

    thread = threading.Thread(target=append)
    thread.start()
    wait_for(lambda: journal.statistics().waited == 1)
    journal.close()
    thread.join()
    assert errors == [f"the journal {folder} is closed"]


def test_memory_that_waits_for_the_disk_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Appends that nobody waits for wait all the same once so much of them is in memory."""
    with Journal(folder, memory_bytes=1000) as journal:
        peaks = []
        write = segments.ActiveSegment.write

        def watched(self: segments.ActiveSegment, *args: Any) -> None:
            peaks.append(journal.statistics().memory_bytes)
            write(self, *args)

        monkeypatch.setattr(segments.ActiveSegment, "write", watched)
        for _ in range(200):
            journal.append(bytes(84), wait=False)
        journal.append(bytes(5000), wait=False).wait()
        assert max(peaks[:-1]) <= 1000
        assert len(contents(journal)) == 201


# -- group commit ------------------------------------------------------------------------------------------------------


def test_appenders_that_come_together_share_a_commit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What arrives while the disk is at work is written with one fsync when it is done."""
    released, begun = threading.Event(), threading.Event()
    sync = segments.sync_file

    def slow(fd: int) -> None:
        begun.set()
        released.wait()
        sync(fd)

    with Journal(folder) as journal:
        monkeypatch.setattr(segments, "sync_file", slow)
        threads = [threading.Thread(target=journal.append, args=(b"first",))]
        threads[0].start()
        begun.wait()
        threads += [threading.Thread(target=journal.append, args=(b"%d" % number,)) for number in range(7)]
        for thread in threads[1:]:
            thread.start()
        wait_for(lambda: len(journal._pending) == 7)
        assert journal.statistics().durable == 0, "told durable before the disk said so"
        released.set()
        for thread in threads:
            thread.join()
        drawn = journal.statistics()
        assert (drawn.appended, drawn.commits) == (8, 2)


def test_nobody_is_told_durable_before_the_disk_said_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ticket turns durable after the fsync of its record and not before."""
    seen: list[bool] = []
    sync = segments.sync_file
    with Journal(folder) as journal:
        ticket: list[Ticket] = []
        held = threading.Event()

        def watched(fd: int) -> None:
            held.wait()
            seen.append(ticket[0].is_durable)
            sync(fd)

        monkeypatch.setattr(segments, "sync_file", watched)
        ticket.append(journal.append(b"x", wait=False))
        held.set()
        ticket[0].wait()
        assert seen == [False]
        assert ticket[0].is_durable
        assert repr(ticket[0]) == "<Ticket durable>"


def test_many_records_of_eight_threads_are_all_there(folder: Path) -> None:
    """Eight threads append; each one's records come back in its order, and the counters add up."""
    with Journal(folder, segment_bytes=2048) as journal:

        def work(name: int) -> None:
            for number in range(100):
                journal.append(b"%d %d" % (name, number), wait=number % 3 == 0)

        threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    result, found = Replay, []
    result_of = read_journal(folder, lambda sequence, payload: found.append((sequence, payload)))
    assert isinstance(result_of, result)
    assert [sequence for sequence, _ in found] == list(range(1, 801))
    for name in range(8):
        own = [int(payload.split()[1]) for _, payload in found if payload.startswith(b"%d " % name)]
        assert own == list(range(100))
    drawn = journal.statistics()
    assert (drawn.appended, drawn.memory_bytes, drawn.failed) == (800, 0, 0)


# -- failures of the disk ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["_write_all", "sync_file"])
@pytest.mark.parametrize("rotates", [False, True])
def test_a_failed_write_is_an_error_and_the_journal_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, place: str, rotates: bool
) -> None:
    """A full disk fails the record that met it; what was durable stays, and once there is room it goes on."""
    with Journal(folder, segment_bytes=128 if rotates else 4096) as journal:
        journal.append(b"before" * 20)
        with monkeypatch.context() as patch:
            patch.setattr(segments, place, failing(errno.ENOSPC))
            # the taking back of a failed write syncs as well, and must work for the journal to go on
            patch.setattr(segments.ActiveSegment, "cut", lambda self: os.ftruncate(self._fd, self.end))
            with pytest.raises(LeaseError, match="No space left on device") as caught:
                journal.append(b"lost" * 20)
            assert caught.value.__cause__ is None
        assert journal.append(b"behind" * 20) == 2
        assert [payload[:6] for _, payload in contents(journal)] == [b"before", b"behind"]
        drawn = journal.statistics()
        assert (drawn.failed, drawn.appended, drawn.memory_bytes, drawn.disk_bytes) == (1, 2, 0, files(folder))
    assert read_journal(folder).records == 2


def test_a_failed_write_that_cannot_be_taken_back_ends_the_journal(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is appended behind bytes nobody knows about; opening it again finds what was durable."""
    journal = Journal(folder)
    journal.append(b"before")

    with monkeypatch.context() as patch:
        patch.setattr(segments, "sync_file", failing(errno.EIO))
        for expected in ("was not written: Input/output error", "takes nothing more"):
            with pytest.raises(LeaseError, match=expected):
                journal.append(b"lost")
    journal.close()
    with Journal(folder) as again:
        assert contents(again) == [(1, b"before")]


def test_closing_tells_what_could_not_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that nobody waited for is not lost in silence, and the folder is free all the same."""
    journal = Journal(folder)
    monkeypatch.setattr(journal, "_write_behind", lambda: None)
    ticket = journal.append(b"lost", wait=False)
    with monkeypatch.context() as patch:
        patch.setattr(segments, "_write_all", failing(errno.ENOSPC))
        with pytest.raises(LeaseError, match="1 records were not written"):
            journal.close()
    with pytest.raises(LeaseError, match="No space left"):
        ticket.wait()
    Journal(folder).close()


def test_an_interrupted_write_is_taken_up_by_the_next(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the thread that writes for all does not lose the others' records, nor write one twice."""
    with Journal(folder) as journal:
        journal.append(b"before")

        def interrupted(_: int) -> None:
            monkeypatch.undo()
            raise KeyboardInterrupt

        monkeypatch.setattr(segments, "sync_file", interrupted)
        with pytest.raises(KeyboardInterrupt):
            journal.append(b"interrupted")
        assert journal.append(b"next") == 3
        assert [payload for _, payload in contents(journal)] == [b"before", b"interrupted", b"next"]
        assert journal.statistics().memory_bytes == 0


def failing(number: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_an_interrupted_rotation_leaves_nothing_in_the_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new segment that was made and not yet used is made again: no append fails because its name is taken."""
    with Journal(folder, segment_bytes=128) as journal:
        journal.append(bytes(60))
        create = segments.ActiveSegment.create

        def interrupted(*args: Any) -> None:
            monkeypatch.undo()
            create(*args).close()
            raise KeyboardInterrupt

        monkeypatch.setattr(segments.ActiveSegment, "create", interrupted)
        with pytest.raises(KeyboardInterrupt):
            journal.append(bytes(61))
        assert journal.append(bytes(62)) == 3
        assert [len(payload) for _, payload in contents(journal)] == [60, 61, 62]


def test_a_crash_between_the_mark_and_the_emptying_loses_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mark is durable before a byte is given back: what fails in between is made up for at the next opening."""
    with Journal(folder) as journal:
        for _ in range(5):
            journal.append(b"x")
        with monkeypatch.context() as patch:
            patch.setattr(segments.ActiveSegment, "empty", failing(errno.EIO))
            with pytest.raises(LeaseError, match="could not be truncated up to 5: Input/output error"):
                journal.truncate(5)
        assert contents(journal) == []
        assert journal.append(b"behind") == 6
    with Journal(folder) as journal:
        assert contents(journal) == [(6, b"behind")]


def test_segments_that_a_replay_cannot_sweep_stay_until_later(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails after a replay does not make the replay fail; the next truncation gives the bytes back."""
    with Journal(folder, segment_bytes=128) as journal:
        for _ in range(9):
            journal.append(bytes(60))
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", failing(errno.EIO))
            result = journal.replay(lambda sequence, _: journal.truncate(sequence) if sequence < 9 else None)
        assert (result.records, journal.statistics().segments) == (9, 9)
        journal.truncate(9)
        assert files(folder) == HEADER_BYTES


def test_closing_in_the_middle_of_a_replay_ends_well(folder: Path) -> None:
    """The replay goes on to its end with files of its own, and the journal is closed."""
    journal = Journal(folder)
    journal.append(b"x")
    journal.append(b"y")
    assert journal.replay(lambda _, __: journal.close()).records == 2
    Journal(folder).close()


def test_without_a_thread_the_appender_writes_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system gives no more threads, nothing stays in memory for ever."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with Journal(folder) as journal:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        assert journal.append(b"x", wait=False).is_durable


def test_what_cannot_be_read_is_an_error_and_not_torn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails while reading says nothing about the records: nothing is cut, and the folder is free again."""
    with Journal(folder) as journal:
        journal.append(b"precious")
    before = files(folder)
    with monkeypatch.context() as patch:
        patch.setattr(segments.SegmentReader, "_read", failing(errno.EIO))
        with pytest.raises(LeaseError, match="cannot be read at byte 64: Input/output error"):
            Journal(folder)
        with pytest.raises(LeaseError, match="cannot be read"):
            read_journal(folder)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", failing(errno.EACCES))
        with pytest.raises(LeaseError, match="could not be opened: Permission denied"):
            Journal(folder)
    assert files(folder) == before
    with Journal(folder) as journal:
        assert contents(journal) == [(1, b"precious")]
        for path in folder.glob("*.wal"):
            path.unlink()
        with pytest.raises(LeaseError, match="cannot be read at 00000000000000000001"):
            contents(journal)


def test_a_tail_that_cannot_be_cut_keeps_the_journal_closed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be appended behind a torn record; the next attempt finds everything as it was."""
    with Journal(folder) as journal:
        journal.append(b"x")
    with next(folder.glob("*.wal")).open("ab") as file:
        file.write(b"torn")
    descriptors = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", failing(errno.EIO))
        with pytest.raises(LeaseError, match="could not be opened: Input/output error"):
            Journal(folder)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    with Journal(folder) as journal:
        assert journal.recovered.unread_bytes == 4


def test_a_full_disk_does_not_keep_a_journal_from_being_emptied(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening and truncating need no new bytes: what is full can be made empty."""
    with Journal(folder) as journal:
        journal.append(b"x" * 100)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", failing(errno.ENOSPC))
        with Journal(folder) as journal:
            assert journal.truncate(1) == 116


def test_a_segment_that_somebody_removed_is_noticed(folder: Path) -> None:
    """A record in a file without a name would be gone with the process: the append fails instead."""
    with Journal(folder) as journal:
        journal.append(b"x")
        for path in folder.glob("*.wal"):
            path.unlink()
        with pytest.raises(LeaseError, match="removed while the journal was open"):
            journal.append(b"y")


# -- acknowledging -----------------------------------------------------------------------------------------------------


def test_acknowledged_segments_leave_the_disk(folder: Path) -> None:
    """A segment whose records are all acknowledged is deleted; the mark within one is kept for the next opening."""
    with Journal(folder, segment_bytes=256) as journal:
        for number in range(30):
            journal.append(b"%03d" % number)
        before = files(folder)
        freed = journal.truncate(17)
        assert 0 < freed == before - files(folder) == before - journal.statistics().disk_bytes
        assert journal.truncate(3) == 0
    with Journal(folder) as journal:
        assert [sequence for sequence, _ in contents(journal)] == list(range(18, 31))


def test_acknowledging_everything_gives_all_of_the_disk_back(folder: Path) -> None:
    """What is left is one header, and the sequence goes on after a reopening."""
    for last in (10, 20, 30):
        with Journal(folder, segment_bytes=256) as journal:
            for _ in range(10):
                sequence = journal.append(b"x")
            assert sequence == last
            journal.truncate(sequence)
            assert files(folder) == HEADER_BYTES == journal.statistics().disk_bytes
            assert contents(journal) == []


@pytest.mark.parametrize("up_to", [-1, 3, 1 << 70])
def test_what_is_not_durable_cannot_be_acknowledged(journal: Journal, up_to: int) -> None:
    """A sequence that nobody was given is an error, and acknowledges nothing."""
    journal.append(b"x")
    with pytest.raises(ValueError, match="durable records end at 1"):
        journal.truncate(up_to)
    assert len(contents(journal)) == 1


@pytest.mark.parametrize("up_to", [True, 1.0, "1", None])
def test_a_sequence_is_a_whole_number(journal: Journal, up_to: Any) -> None:
    """Anything else is refused by type."""
    journal.append(b"x")
    with pytest.raises(TypeError, match="whole number"):
        journal.truncate(up_to)


def test_a_torn_mark_costs_the_last_acknowledgement_and_no_more(folder: Path) -> None:
    """Marks are written to two places in turn: with one of them damaged, the one before it holds."""
    with Journal(folder) as journal:
        for _ in range(9):
            journal.append(b"x")
        for up_to in (2, 4, 6):
            journal.truncate(up_to)
    path = next(folder.glob("*.wal"))
    raw = bytearray(path.read_bytes())
    header = segments.parse_header(bytes(raw))
    assert header is not None
    raw[32 + 16 * header.slot] ^= 1
    path.write_bytes(raw)
    with Journal(folder) as journal:
        assert contents(journal)[0][0] == 5


# -- what was torn -----------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_a_damaged_tail_is_cut_before_the_damage_and_not_after(data: st.DataObject) -> None:
    """Cut or flipped at any byte: every record before it is replayed, none behind it, and appending goes on."""
    sizes = data.draw(st.lists(st.integers(0, 50), min_size=1, max_size=6))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Journal(folder) as journal:
            for number, size in enumerate(sizes):
                journal.append(bytes([number]) * size)
        path = next(folder.glob("*.wal"))
        raw = bytearray(path.read_bytes())
        place = data.draw(st.integers(HEADER_BYTES, len(raw) - 1))
        if data.draw(st.booleans()):
            del raw[place:]
        else:
            raw[place] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(raw)
        ends = [HEADER_BYTES + sum(sizes[: number + 1]) + RECORD_BYTES * (number + 1) for number in range(len(sizes))]
        whole = sum(end <= place for end in ends)
        start = ([HEADER_BYTES, *ends])[whole]
        result = read_journal(folder)
        assert result.records == whole
        if len(raw) > start:
            assert (result.segment, result.offset, result.unread_bytes) == (path.name, start, len(raw) - start)
            assert result.reason
        with Journal(folder) as journal:
            assert journal.recovered == result
            assert path.stat().st_size == start
            assert journal.append(b"behind") == whole + 1
            found = contents(journal)
        expected = [(number + 1, bytes([number]) * size) for number, size in enumerate(sizes[:whole])]
        assert found == [*expected, (whole + 1, b"behind")]


def test_damage_in_the_middle_stops_a_replay_and_deletes_nothing(folder: Path) -> None:
    """No crash does that, so what lies behind is not taken for a torn tail; the result says where and how much."""
    with Journal(folder, segment_bytes=128) as journal:
        for number in range(12):
            journal.append(b"%02d" % number)
    first, *others = sorted(folder.glob("*.wal"))
    raw = bytearray(first.read_bytes())
    raw[-1] ^= 255
    first.write_bytes(raw)
    before = files(folder)
    behind = sum(path.stat().st_size for path in others)
    with Journal(folder, segment_bytes=128) as journal:
        found: list[int] = []
        result = journal.replay(lambda sequence, _: found.append(sequence))
        assert journal.append(b"goes on") == 13
    assert found == list(range(1, len(found) + 1))
    assert (result.segment, result.reason) == (first.name, "the checksum of the record is wrong")
    assert result.unread_bytes == RECORD_BYTES + 2 + behind
    assert files(folder) > before


def test_a_missing_segment_stops_a_replay(folder: Path) -> None:
    """Records that somebody deleted are named; what comes after them is not handed over as if nothing were missing."""
    with Journal(folder, segment_bytes=128) as journal:
        for number in range(12):
            journal.append(b"%02d" % number)
    _, second, third, *_ = sorted(folder.glob("*.wal"))
    second.unlink()
    result = read_journal(folder)
    gap = f"the records {int(second.stem)} to {int(third.stem) - 1} are missing"
    assert (result.reason, result.last) == (gap, int(second.stem) - 1)


def test_a_damaged_header_of_the_newest_segment_is_not_opened(folder: Path) -> None:
    """Its records may be sound: nothing is cut, and the error says what to do."""
    with Journal(folder) as journal:
        journal.append(b"precious")
    path = next(folder.glob("*.wal"))
    raw = bytearray(path.read_bytes())
    raw[3] ^= 1
    path.write_bytes(raw)
    for _ in range(2):  # the folder is free again after the error
        with pytest.raises(LeaseError, match="restore the file, or move it away"):
            Journal(folder)
    assert path.read_bytes() == raw
    assert read_journal(folder).reason == "the header of the segment is damaged"


@pytest.mark.parametrize("size", [0, 1, HEADER_BYTES - 1, HEADER_BYTES])
@pytest.mark.parametrize("alone", [False, True])
def test_a_segment_that_was_being_born_is_dropped(folder: Path, size: int, alone: bool) -> None:
    """A crash between making a file and writing its header leaves no record, and no gap in the sequence."""
    if not alone:
        with Journal(folder) as journal:
            journal.append(b"x")
            journal.append(b"y")
    folder.mkdir(exist_ok=True)
    (folder / f"{3:020d}.wal").write_bytes(bytes(size))
    with Journal(folder) as journal:
        assert journal.append(b"z") == 3
        assert [payload for _, payload in contents(journal)] == ([b"z"] if alone else [b"x", b"y", b"z"])


def test_other_files_in_the_folder_are_left_alone(folder: Path) -> None:
    """Only names of segments are looked at."""
    folder.mkdir()
    (folder / "notes.wal").write_text("mine")
    with Journal(folder) as journal:
        journal.append(b"x")
        journal.truncate(1)
    assert (folder / "notes.wal").read_text() == "mine"


# -- opening and closing -----------------------------------------------------------------------------------------------


def test_a_second_journal_in_the_same_process_is_refused(folder: Path) -> None:
    """Two journals would write over each other; the first one's closing makes the folder free."""
    with Journal(folder), pytest.raises(LeaseError, match=f"had process {os.getpid()}"):
        Journal(folder)
    Journal(folder).close()


def test_a_folder_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    """What cannot be a journal says so, and what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="Name a folder that can be written to"):
        Journal(tmp_path / "file")
    with pytest.raises(ConfigurationError, match="Name a folder that can be written to"):
        Journal(tmp_path / "file" / "below")


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_bytes": 0},
        {"max_bytes": "1 GiB"},
        {"max_bytes": True},
        {"memory_bytes": 0},
        {"segment_bytes": 10},
        {"at_cap": "drop"},
        {"folder": 7},
    ],
)
def test_settings_that_make_no_sense_are_refused(folder: Path, wrong: dict[str, Any]) -> None:
    """Each names itself and what would be right, before a file is made."""
    with pytest.raises(ConfigurationError) as caught:
        Journal(**{"folder": folder, **wrong})
    assert caught.value.advice
    assert not folder.exists()


def test_a_smaller_cap_than_what_is_there_loses_nothing(folder: Path) -> None:
    """A journal that holds more than its new cap opens, replays, and takes records again once it was truncated."""
    with Journal(folder, segment_bytes=1024) as journal:
        for _ in range(20):
            journal.append(bytes(1000))
    with Journal(folder, max_bytes=4096) as journal:
        assert len(contents(journal)) == 20
        with pytest.raises(Saturated):
            journal.append(b"x")
        journal.truncate(20)
        assert journal.append(b"x") == 21


def test_a_closed_journal_says_so(folder: Path) -> None:
    """After the end every use is one clear error, and closing again does nothing."""
    journal = Journal(folder)
    journal.append(b"x")
    journal.close()
    journal.close()
    for use in (lambda: journal.append(b"y"), lambda: journal.truncate(1), lambda: contents(journal)):
        with pytest.raises(LeaseError, match="is closed"):
            use()
    assert journal.statistics().durable == 1
    assert repr(journal) == f"<Journal {str(folder)!r} closed>"


def test_a_journal_that_is_forgotten_warns_and_frees_its_folder(folder: Path) -> None:
    """Like a file that nobody closed: the descriptors go, and a warning says so."""
    journal = Journal(folder)
    with pytest.warns(ResourceWarning, match="was not closed"):
        del journal
    Journal(folder).close()


def test_a_system_without_flock_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a lock two processes could write into one folder, so there is no journal."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(ServiceUnavailable, match="flock"):
        Journal(folder)


def test_a_missing_folder_cannot_be_read(folder: Path) -> None:
    """Reading makes no folder; it says which one is not there."""
    with pytest.raises(LeaseError, match="No such file or directory"):
        read_journal(folder)
    assert not folder.exists()


def test_a_system_without_writev_writes_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system writes one buffer at a time, and short, the records are the same."""
    write = os.write
    monkeypatch.delattr(os, "writev")
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    with Journal(folder) as journal:
        journal.append(b"a record longer than that")
        journal.append(b"")
        assert [payload for _, payload in contents(journal)] == [b"a record longer than that", b""]


def test_rounds_leave_no_descriptor_thread_or_file(tmp_path: Path) -> None:
    """Sixty journals opened, written to without waiting, and closed: nothing of them is left."""

    def round_(number: int) -> None:
        with Journal(tmp_path / "one", max_bytes=8192) as journal:
            for _ in range(5):
                last = journal.append(b"%d" % number, wait=False)
            journal.truncate(last.wait())

    def held() -> tuple[int, int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count(), len(os.listdir(tmp_path / "one"))

    round_(0)
    baseline = held()
    for number in range(60):
        round_(number)
    assert held() == baseline


# -- against a model ---------------------------------------------------------------------------------------------------


class Machine(RuleBasedStateMachine):
    """A journal, and the list it has to be like; reopened and torn at will."""

    def __init__(self) -> None:
        super().__init__()
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.records: list[bytes] = []
        self.mark = 0
        self.journal = self.open()

    def open(self) -> Journal:
        return Journal(self.folder, max_bytes=4096, segment_bytes=300)

    @rule(payload=st.binary(max_size=120), wait=st.booleans())
    def append(self, payload: bytes, wait: bool) -> None:
        try:
            ticket = self.journal.append(payload, wait=False)
        except Saturated:
            assert self.journal.statistics().disk_bytes > 3000
            return
        self.records.append(payload)
        if wait:
            assert ticket.wait() == len(self.records)

    @rule(share=st.floats(0, 1))
    def truncate(self, share: float) -> None:
        durable = self.journal.statistics().durable
        up_to = self.mark + int(share * (durable - self.mark))
        self.journal.truncate(up_to)
        self.mark = max(self.mark, up_to)

    @rule()
    def reopen(self) -> None:
        self.journal.close()
        self.journal = self.open()
        assert self.journal.recovered.is_whole

    @rule(garbage=st.binary(min_size=1, max_size=40))
    def tear(self, garbage: bytes) -> None:
        self.journal.close()
        newest = max(self.folder.glob("*.wal"))
        with newest.open("ab") as file:
            file.write(garbage)
        self.journal = self.open()
        assert self.journal.recovered.unread_bytes == len(garbage)

    @precondition(lambda self: self.records)
    @rule()
    def replay(self) -> None:
        try:
            self.journal.append(b"the end")
        except Saturated:
            return
        self.records.append(b"the end")
        expected = list(enumerate(self.records, 1))[self.mark :]
        assert contents(self.journal) == expected

    @invariant()
    def bounded(self) -> None:
        drawn = self.journal.statistics()
        assert drawn.disk_bytes + drawn.memory_bytes <= drawn.max_bytes
        assert drawn.acknowledged == self.mark

    def teardown(self) -> None:
        self.journal.close()
        found: list[tuple[int, bytes]] = []
        read_journal(self.folder, lambda sequence, payload: found.append((sequence, payload)))
        assert found == list(enumerate(self.records, 1))[self.mark :]
        self.temporary.cleanup()


Machine.TestCase.settings = settings(deadline=None, max_examples=15, stateful_step_count=30)
TestAgainstAModel = Machine.TestCase
TestAgainstAModel.__doc__ = "Whatever is done in whatever order, the journal is like a list with a mark."
