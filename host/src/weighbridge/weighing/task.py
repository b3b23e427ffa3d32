"""Running one task in a fresh interpreter: the side of the caller."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import attrs

from .records import Status

Kind: TypeAlias = Literal["trace", "time", "check"]
_TAIL: Final = 600


@attrs.frozen(kw_only=True)
class Task:
    """What to do with which plugin."""

    kind: Kind
    group: str
    name: str
    path: tuple[str, ...]
    """``sys.path`` of the fresh interpreter; empty for its own."""
    settings: Mapping[str, Any] = attrs.field(factory=dict)
    rounds: int = 1
    explain_seconds: float = 20.0


@attrs.frozen(kw_only=True)
class Answer:
    """What came back."""

    status: Status
    content: Mapping[str, Any]
    error: str | None = None


def run_task(task: Task, *, timeout_seconds: float, python: str = sys.executable) -> Answer:
    """Run `task` in a fresh interpreter and wait for it. What the plugin prints goes nowhere.

    A crash, a hang or an exit is an answer, not an exception. If this is interrupted, the interpreter is killed.
    """
    with tempfile.TemporaryDirectory(prefix="weighbridge-") as folder:
        result, errors = Path(folder, "result.json"), Path(folder, "errors.txt")
        Path(folder, "task.json").write_text(json.dumps(attrs.asdict(task)), encoding="utf-8")
        with errors.open("wb") as stream:
            code = _run([python, "-P", "-m", "weighbridge.weighing.worker", folder], stream, timeout_seconds)
        if code is None:
            return Answer(status="timeout", content={}, error=f"no result after {timeout_seconds:g} s; it was killed")
        if result.exists():
            content: dict[str, Any] = json.loads(result.read_bytes())
            return Answer(status=content.pop("status"), content=content, error=content.pop("error", None))
        return Answer(status="crashed", content={}, error=_crash(code, errors.read_bytes()))


def _run(command: Sequence[str], errors: Any, timeout_seconds: float) -> int | None:
    """The exit code, None if it took too long. Nothing of it is left running, whatever happens."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True
    )
    try:
        return process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the interpreter and what it started: it leads a session of its own."""
    if hasattr(os, "killpg"):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
    elif process.poll() is None:
        process.kill()
    process.wait()


def _crash(code: int, errors: bytes) -> str:
    if code < 0:
        try:
            how = f"its interpreter was ended by {signal.Signals(-code).name}"
        except ValueError:
            how = f"its interpreter was ended by signal {-code}"
    else:
        how = f"its interpreter ended with exit code {code} before there was a result"
    tail = errors.decode("utf-8", "replace").strip()[-_TAIL:]
    return f"{how}: {tail}" if tail else how
