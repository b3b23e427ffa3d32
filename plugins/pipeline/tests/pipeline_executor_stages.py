"""Stages for test_pipeline_executors.py, in a module of their own that worker processes can import."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from weighbridge_pipeline import Job, UndoJob

SOON = 10.0


class Peculiar(Exception):
    """An error that cannot be made again from its arguments, so that a pickle of it cannot be read."""

    def __init__(self, one: str, another: str) -> None:
        super().__init__(f"{one} and {another}")


def say(log: str, words: str) -> None:
    """One line, whole, whoever else writes."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{words}\n".encode())
    finally:
        os.close(descriptor)


def wait_for(path: str, words: str = "") -> None:
    """Until there is a file with these words in it."""
    end = time.monotonic() + SOON
    while not Path(path).exists() or words not in Path(path).read_text():
        assert time.monotonic() < end, f"nobody wrote {words!r} into {path}"
        time.sleep(0.01)


def number(job: Job) -> int:
    """What the transaction was begun with, and one for each result."""
    total: int = job.inputs + sum(job.results.values())
    return total


def process(job: Job) -> int:
    """Where it runs."""
    return os.getpid()


def write(job: Job) -> dict[str, Any]:
    """Leaves a line, and gives what the undo needs to take it back."""
    say(job.inputs["log"], f"run {job.stage}")
    return {**job.inputs, "value": job.stage}


def unwrite(job: UndoJob) -> None:
    """Leaves another line."""
    say(job.captured["log"], f"undo {job.captured['value']} {job.key == f'{job.transaction}/{job.stage}'}")


def spoil(job: Job) -> None:
    """Changes what it was given, and fails."""
    for result in job.results.values():
        result["value"] = "spoilt"
    raise ValueError("it had to fail")


def fail_peculiarly(job: Job) -> None:
    """Raises what cannot be sent."""
    raise Peculiar("this", "that")


def give_a_lock(job: Job) -> Any:
    """Gives what cannot be sent."""
    return threading.Lock()


def big(job: Job) -> bytes:
    """Gives what is too large to go with a call."""
    return bytes([len(job.inputs) % 251]) * (3 * 1024 * 1024)


def digest(job: Job) -> tuple[str, str]:
    """Of the inputs and of the results: whether they came whole."""
    return _digest(job.inputs), _digest(b"".join(job.results[name] for name in sorted(job.results)))


def big_state(job: Job) -> dict[str, Any]:
    """Gives a lot for its undo."""
    return {"log": job.inputs["log"], "content": b"x" * (2 * 1024 * 1024)}


def undo_big_state(job: UndoJob) -> None:
    """Says how much came."""
    say(job.captured["log"], f"undo {len(job.captured['content'])}")


def linger(job: Job) -> dict[str, Any]:
    """Says that it has begun, and ends when there is a file, whoever calls it off."""
    say(job.inputs["log"], f"run {job.stage}")
    wait_for(job.inputs["go"])
    say(job.inputs["log"], f"end {job.stage}")
    return {"log": job.inputs["log"], "value": job.stage}


def until_told(job: Job) -> None:
    """Says who it is and that it has begun, and ends when its token says so."""
    say(job.inputs["pid"], str(os.getpid()))
    say(job.inputs["log"], f"run {job.stage}")
    assert job.cancel.wait(SOON)
    job.cancel.raise_if_set()


def until_late(job: Job) -> float:
    """Ends when its time is up, by the clock of its worker."""
    left = job.remaining_seconds
    assert left is not None
    assert job.cancel.wait(SOON)
    job.cancel.raise_if_set()
    return left


def die(job: Job) -> None:
    """Its worker is killed in its midst."""
    say(job.inputs["log"], f"run {job.stage}")
    os.kill(os.getpid(), signal.SIGKILL)


def linger_by_pid(job: Job) -> None:
    """Says who it is, and does not end by itself."""
    say(job.inputs["pid"], f"{os.getpid()}.")
    time.sleep(SOON)


def die_beside(job: Job) -> None:
    """Its worker is killed while that other stage runs."""
    wait_for(job.inputs["pid"], ".")
    os.kill(os.getpid(), signal.SIGKILL)


def undo_if_alone(job: UndoJob) -> None:
    """Says whether that other stage still runs."""
    try:
        os.kill(int(float(Path(job.captured["pid"]).read_text())), 0)
    except ProcessLookupError:
        say(job.captured["log"], "undo a alone")


def undo_and_die(job: UndoJob) -> None:
    """Its worker is killed in its midst, unless it is the driver."""
    say(job.captured["log"], f"undo {job.captured['value']} {'here' if _is_driver(job) else 'there'} {job.key}")
    if not _is_driver(job):
        os.kill(os.getpid(), signal.SIGKILL)


def _is_driver(job: UndoJob) -> bool:
    return bool(job.captured["driver"] == os.getpid())


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content).hexdigest()
