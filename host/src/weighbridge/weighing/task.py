"""Running one task in a fresh interpreter: the side of the caller."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any, Final, Literal, TypeAlias

import attrs

from ..reclaim.ties.tie import Cut
from .records import Status

Kind: TypeAlias = Literal["stdlib", "trace", "time", "check", "explain"]

_FOREIGN: Final = ("WEIGHBRIDGE_CEILING", "WEIGHBRIDGE_DISABLED_PLUGINS", "PYTHONTRACEMALLOC", "PYTHONINSPECT")
"""Settings of the caller's that would change what is measured, or keep it from being measured."""


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
    host: tuple[str, ...] = ()
    """Modules of the host that it imports for the plugin's sake: to be there before the plugin is weighed."""
    stdlib: tuple[str, ...] = ()
    """Modules of the standard library to be there before it is traced."""
    explain_seconds: float = 20.0
    cut: Cut = "safe"
    """Which ties an explanation cuts."""
    dependencies: bool = True
    """Whether an explanation unloads the dependencies, too."""
    graph: bool = False
    """Whether an explanation is drawn."""


@attrs.frozen(kw_only=True)
class Answer:
    """What came back."""

    status: Status
    content: Mapping[str, Any]
    error: str | None = None
    traceback: str | None = None


def run_task(task: Task, *, timeout_seconds: float, python: str | None = None) -> Answer:
    """Run `task` in a fresh interpreter and wait for it. What the plugin prints goes nowhere.

    A crash, a hang or an exit is an answer, not an exception. If this is interrupted, the interpreter is killed.

    :param python: the interpreter of another environment, which is to see nothing of this one but what it has itself.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    if python is not None:
        environment.pop("PYTHONPATH", None)  # it would come before what is installed there
    with tempfile.TemporaryDirectory(prefix="weighbridge-", ignore_cleanup_errors=True) as folder:
        result, errors = Path(folder, "result.json"), Path(folder, "errors.txt")
        Path(folder, "task.json").write_text(json.dumps(attrs.asdict(task, filter=_is_plain)), encoding="utf-8")
        if task.settings:
            Path(folder, "settings.pickle").write_bytes(pickle.dumps(dict(task.settings)))
        # what the plugin leaves in a temporary folder goes with ours, also if it was killed
        Path(folder, "tmp").mkdir()
        environment |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(Path(folder, "tmp")))
        # traced from the start, or what makes room for more by moving would look as if it had come new
        tracing = ["-X", "tracemalloc=1"] if task.kind == "trace" else []
        command = [python or sys.executable, "-P", *tracing, "-m", "weighbridge.weighing.worker", folder]
        with errors.open("wb") as stream:
            code = _run(command, environment, stream, timeout_seconds)
        if result.exists():
            content: dict[str, Any] = json.loads(result.read_bytes())
            status, error, trace = content.pop("status"), content.pop("error", None), content.pop("traceback", None)
            return Answer(status=status, content=content, error=error, traceback=trace)
        if code is None:
            return Answer(status="timeout", content={}, error=f"no result after {timeout_seconds:g} s; it was killed")
        said = errors.read_bytes().decode("utf-8", "replace").strip()
        return Answer(status="crashed", content={}, error=crash(code, said), traceback=said or None)


def _is_plain(attribute: attrs.Attribute[Any], value: object) -> bool:
    """Settings may have dates in them, which JSON does not know."""
    return attribute.name != "settings"


def _run(
    command: Sequence[str], environment: Mapping[str, str], errors: IO[bytes], timeout_seconds: float
) -> int | None:
    """The exit code, None if it took too long. Nothing of it is left running, whatever happens."""
    process = None
    try:
        with signals_held():  # interrupted inside, Popen would lose the process that it has just started
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
        return process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process is not None:
            with signals_held():
                _kill(process)


@contextmanager
def signals_held() -> Iterator[None]:
    """Ctrl-C and the like wait until the end of the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = {}
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGINT)):
        # only what Python handles can interrupt a block of Python
        if number not in before and callable(signal.getsignal(number)):
            before[number] = signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came[:1]:
            signal.raise_signal(number)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the interpreter and what it started: it leads a session of its own."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        process.kill()
    process.wait()


def crash(code: int, said: str) -> str:
    """How an interpreter ended that gave no result, in one line.

    :param said: what it wrote to standard error.
    """
    if code < 0:
        try:
            how = f"its interpreter was ended by {signal.Signals(-code).name}"
        except ValueError:
            how = f"its interpreter was ended by signal {-code}"
    else:
        how = f"its interpreter ended with exit code {code} before there was a result"
    place = _place(said)
    return f"{how}, {place}" if place else how


def _place(said: str) -> str:
    """Where it happened, from what faulthandler wrote: the innermost line that is not the standard library's.

    https://docs.python.org/3/library/faulthandler.html
    """
    lines = said.splitlines()
    begin = next((number for number, line in enumerate(lines) if line.startswith("Fatal Python error")), None)
    if begin is None:
        return ""
    frames = [line.strip().removeprefix("File ") for line in lines[begin:] if line.startswith('  File "')]
    stdlib = sysconfig.get_path("stdlib")
    foreign = [
        frame
        for frame in frames
        if not frame.startswith('"<frozen') and (f'"{stdlib}' not in frame or "site-packages" in frame)
    ]
    return f"at {foreign[0]}" if foreign else ""
