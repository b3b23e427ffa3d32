"""Processes tell each other how they are, and the dead are forgotten."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from weighbridge_hookspecs import ConfigurationError

from weighbridge_wasm import report
from weighbridge_wasm.report import ProcessReport, Reports

WRITES = """
import sys
from weighbridge_wasm.report import Reports
reports = Reports(sys.argv[1])
reports.write({"calls": 12})
print("ready", flush=True)
sys.stdin.read()
if sys.argv[2] == "close":
    reports.close()
"""


def started(folder: Path, ending: str) -> subprocess.Popen[str]:
    """A process that has written its report, and waits for its input to end."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITES, str(folder), ending], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("ending", ["close", "leave", "kill"])
def test_a_process_is_heard_of_while_it_lives(tmp_path: Path, ending: str) -> None:
    """Its report is there until it ends, however it ends, and then no file is left."""
    folder = tmp_path / "running"
    reports = Reports(folder)
    with started(folder, ending) as process:
        (found,) = reports.read()
        if ending == "kill":
            process.send_signal(signal.SIGKILL)
        process.communicate("")
    assert (found.pid, found.document) == (process.pid, {"calls": 12})
    assert found.age_seconds >= 0
    assert reports.read() == ()
    assert os.listdir(folder) == []


def test_the_newest_report_counts(tmp_path: Path) -> None:
    """Each report takes the place of the one before, and says how old it is."""
    now = [1000.0]
    writer, reader = Reports(tmp_path / "r", clock=lambda: now[0]), Reports(tmp_path / "r", clock=lambda: now[0])
    writer.write({"calls": 1})
    writer.write({"calls": 2})
    now[0] += 7.5
    assert reader.read() == (ProcessReport(pid=os.getpid(), age_seconds=7.5, document={"calls": 2}),)
    assert writer.read() == ()
    writer.close()
    writer.close()
    assert reader.read() == ()
    assert os.listdir(tmp_path / "r") == []


def test_readers_never_see_half_a_report(tmp_path: Path) -> None:
    """While reports of all lengths are written, each that is read is whole, and none is taken for a dead one's."""
    writer, reader = Reports(tmp_path), Reports(tmp_path)
    writer.write({"text": ""})
    stop = threading.Event()

    def write() -> None:
        length = 0
        while not stop.is_set():
            length = (length + 997) % 20_000
            writer.write({"text": "x" * length, "length": length})

    thread = threading.Thread(target=write)
    thread.start()
    try:
        seen = [reader.read() for _ in range(300)]
    finally:
        stop.set()
        thread.join()
    assert all(len(found) == 1 for found in seen)
    assert all(len(one.document["text"]) == one.document.get("length", 0) for found in seen for one in found)


def test_a_file_that_a_reader_took_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between making the file and locking it somebody may take it for a dead one's: then there is a new one."""
    writer, reader = Reports(tmp_path), Reports(tmp_path)
    once = iter([True])
    flock = fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX and next(once, False):
            assert reader.read() == ()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    writer.write({"calls": 3})
    assert [found.document for found in reader.read()] == [{"calls": 3}]


def test_without_locks_age_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has none, a report that was not written for minutes is forgotten."""
    monkeypatch.setattr(report, "fcntl", None)
    writer, reader = Reports(tmp_path), Reports(tmp_path)
    writer.write({"calls": 4})
    assert [found.document for found in reader.read()] == [{"calls": 4}]
    (path,) = tmp_path.glob("*.json")
    os.utime(path, (1, 1))
    assert reader.read() == ()
    assert os.listdir(tmp_path) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.sampled_from([b"{}", b"[]", b'{"pid":1,"written":"x","document":{}}', b"[" * 9000]))
def test_what_nobody_wrote_is_not_read(tmp_path: Path, content: bytes) -> None:
    """A file with anything else in it is passed over."""
    writer, reader = Reports(tmp_path), Reports(tmp_path)
    writer.write({"calls": 5})
    (path,) = tmp_path.glob("*.json")
    path.write_bytes(content)
    assert reader.read() == ()
    writer.close()


def test_what_json_cannot_say_is_refused(tmp_path: Path) -> None:
    """The report before it stays."""
    writer, reader = Reports(tmp_path), Reports(tmp_path)
    writer.write({"calls": 6})
    for document in ({"calls": float("nan")}, {"calls": object()}):
        with pytest.raises((TypeError, ValueError)):
            writer.write(document)
    assert [found.document for found in reader.read()] == [{"calls": 6}]


def test_the_folder_is_private(tmp_path: Path) -> None:
    """It is made for its owner alone, and refused if it is open to others, a link or a file."""
    Reports(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    with pytest.raises(ConfigurationError, match=r"open to others .*mode 0700.*mode 0755"):
        Reports(tmp_path / "open")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(ConfigurationError, match="link is no folder"):
        Reports(tmp_path / "link")


def test_nothing_is_written_once_it_is_closed(tmp_path: Path) -> None:
    """A timer may still be at work when the plugin goes, and nobody would take its report away."""
    reports = Reports(tmp_path / "running")
    reports.write({"calls": 1})
    reports.close()
    reports.write({"calls": 2})
    assert os.listdir(tmp_path / "running") == []
