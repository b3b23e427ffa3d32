"""The journal against what the system does to it: kill -9, a full disk, a second process, a fork."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
from weighbridge_hookspecs import LeaseError

from weighbridge.leases.journal import Journal
from weighbridge.leases.replay import read_journal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no signals and no limits like these")

# Appends records of odd sizes from four threads, and says each sequence once it is durable. A fifth one acknowledges
# a third of what there is, and says so before and after.
WRITER = """
import os, sys, threading
from weighbridge.leases.journal import Journal

journal = Journal(sys.argv[1], segment_bytes=4096)

def work(seed):
    number = 0
    while True:
        number += 1
        size = (number * 7919 + seed) % 1500
        sequence = journal.append(bytes([sequence_byte(number)]) * size)
        os.write(1, b"durable %d %d %d\\n" % (sequence, size, sequence_byte(number)))

def acknowledge():
    while True:
        drawn = journal.statistics()
        up_to = drawn.acknowledged + (drawn.durable - drawn.acknowledged) // 3
        os.write(1, b"begins %d\\n" % up_to)
        journal.truncate(up_to)
        os.write(1, b"ended %d\\n" % up_to)

def sequence_byte(number):
    return number % 251

for seed in range(4):
    threading.Thread(target=work, args=(seed,)).start()
acknowledge()
"""


def test_killed_at_any_moment_nothing_acknowledged_is_lost_and_nothing_torn_replayed(tmp_path: Path) -> None:
    """Eight processes in turn are killed while they write and truncate; what they said was durable is there, whole."""
    choice = random.Random(20)
    said = Said()
    for _ in range(8):
        with start(WRITER, tmp_path) as writer:
            assert writer.stdout is not None
            lines = [writer.stdout.readline() for _ in range(choice.randrange(1, 160))]
            writer.send_signal(signal.SIGKILL)
            lines += writer.stdout.readlines()
        for line in lines:
            said.hear(line)
        found: dict[int, bytes] = {}
        read_journal(tmp_path, found.__setitem__)
        assert list(found) == list(range(min(found), max(found) + 1))
        assert said.ended < min(found) <= said.begun + 1
        kept = {sequence: payload for sequence, payload in said.durable.items() if sequence >= min(found)}
        assert {sequence: found.get(sequence) for sequence in kept} == kept
        with Journal(tmp_path, segment_bytes=4096) as journal:
            again: dict[int, bytes] = {}
            assert journal.replay(again.__setitem__).is_whole
            assert again == found
    assert len(said.durable) > 8


class Said:
    """What the processes said before they were killed."""

    def __init__(self) -> None:
        self.durable: dict[int, bytes] = {}
        self.begun = 0
        self.ended = 0

    def hear(self, line: str) -> None:
        if not line.endswith("\n"):
            return
        word, sequence, *rest = line.split()
        if word == "durable":
            size, byte = map(int, rest)
            self.durable[int(sequence)] = bytes([byte]) * size
        elif word == "begins":
            self.begun = int(sequence)
        else:
            self.ended = int(sequence)


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, encoding="ascii")


# A limit on the size of files makes the kernel write a part of a record, and then refuse, as a full disk does.
FULL = """
import resource, sys
from weighbridge.leases.journal import Journal
from weighbridge_hookspecs import LeaseError

journal = Journal(sys.argv[1], segment_bytes=1 << 20)
for number in range(3):
    journal.append(b"%d" % number * 1000)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))
tickets = [journal.append(b"lost" * 500, wait=False) for _ in range(3)]
failed = 0
for ticket in tickets:
    try:
        ticket.wait()
    except LeaseError as error:
        failed += "File too large" in str(error)
print(failed, journal.append(b"fits"), journal.truncate(2), journal.statistics().disk_bytes)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(journal.append(b"goes on" * 500))
journal.close()
"""


def test_a_disk_that_takes_half_a_record_leaves_a_sound_journal(tmp_path: Path) -> None:
    """The half is taken back, each failed append says why, a smaller record fits, and later it goes on."""
    pytest.importorskip("resource")
    with start(FULL, tmp_path) as process:
        output, _ = process.communicate()
    first, second = output.split("\n")[:2]
    assert first.split() == ["3", "4", "0", str(64 + 3 * 1016 + 20)]
    assert second == "5"
    result = read_journal(tmp_path)
    assert (result.is_whole, result.records, result.skipped) == (True, 3, 2)


# Says that it has the journal, and waits until its input ends.
HOLDER = """
import sys
from weighbridge.leases.journal import Journal

with Journal(sys.argv[1]) as journal:
    journal.append(b"held")
    print("open", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("end", ["close", "kill"])
def test_a_second_process_is_told_who_has_the_journal(tmp_path: Path, end: str) -> None:
    """As long as the first one has it; whether that one closes it or dies, the folder is free afterwards."""
    command = [sys.executable, "-P", "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="ascii") as holder:
        output: IO[str] | None = holder.stdout
        assert output is not None
        assert output.readline() == "open\n"
        with pytest.raises(LeaseError, match=f"had process {holder.pid}"):
            Journal(tmp_path)
        if end == "kill":
            holder.kill()
    with Journal(tmp_path) as journal:
        assert journal.append(b"mine") == 2


# A child that was forked tries everything; then the parent closes, and opens again while the child lives.
FORKED = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from weighbridge.leases.journal import Journal
from weighbridge_hookspecs import LeaseError

journal = Journal(sys.argv[1])
ticket = journal.append(b"parent", wait=False)
ticket.wait()
go, gone = os.pipe()
told, tell = os.pipe()
pid = os.fork()
if pid == 0:
    os.close(gone)
    refused = 0
    for use in (lambda: journal.append(b"child"), lambda: journal.truncate(1), lambda: journal.replay(print)):
        try:
            use()
        except LeaseError as error:
            refused += "which forked this one" in str(error)
    os.write(tell, b"%d" % refused)
    os.read(go, 1)  # the descriptors stay open until the parent is done
    journal.close()
    os._exit(0)
assert os.read(told, 1) == b"3"
journal.append(b"parent again")
journal.close()
with Journal(sys.argv[1]) as again:
    print(again.replay(lambda *_: None).records)
os.close(gone)
os.waitpid(pid, 0)
"""


def test_a_forked_child_cannot_write_and_does_not_keep_the_lock(tmp_path: Path) -> None:
    """The journal stays with the process that opened it; the child's copy of its descriptors holds nothing up."""
    if not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    with start(FORKED, tmp_path) as process:
        output, _ = process.communicate()
    assert (output, process.returncode) == ("2\n", 0)


# Nearly four times what the journal may hold goes through it.
BOUNDED = """
import resource, sys
from weighbridge.leases.journal import Journal

journal = Journal(sys.argv[1], max_bytes=8 << 20, memory_bytes=1 << 20)
for _ in range(8):
    journal.append(b"warm", wait=False)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(300):
    last = journal.append(bytes(100_000), wait=False)
    drawn = journal.statistics()
    if drawn.disk_bytes > 4 << 20:
        journal.truncate(drawn.durable)
last.wait()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, journal.statistics().peak_bytes)
journal.close()
"""


def test_much_goes_through_little(tmp_path: Path) -> None:
    """Thirty megabytes through a journal of eight: the resident set grows by no more than what may wait in memory."""
    pytest.importorskip("resource")
    with start(BOUNDED, tmp_path) as process:
        output, _ = process.communicate()
    grown_kib, peak = map(int, output.split())
    assert grown_kib < 4 * 1024
    assert peak <= 8 << 20
