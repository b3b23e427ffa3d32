"""Ctrl-C, SIGTERM and SIGHUP, sent to real processes: what is left of them, and what they say."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

import attrs
import psutil
import pytest

from weighbridge.cli.interrupts import Interrupted, interruptible
from weighbridge.fabricate import write_distribution

COMMAND: Final = shutil.which("weighbridge", path=str(Path(sys.executable).parent)) or "weighbridge"
LINUX: Final = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's own promise")

SOUND: Final = "class Plugin:\n    def __init__(self, context):\n        pass\n"
HANGS: Final = """\
import os, time
from pathlib import Path
forked = os.fork() if "weigh" in os.environ["WHO"] else 1
if forked:
    Path(os.environ["SEEN"], "import").write_text(f"{os.getpid()} {forked}")
time.sleep(600)
"""
DEAF: Final = """\
import os, time
from pathlib import Path
try:
    Path(os.environ["SEEN"], "import").write_text("begun")
    time.sleep(600)
except BaseException:
    pass
class Plugin:
    def __init__(self, context):
        pass
"""
SLOW_TO_LEAVE: Final = """\
import os, time
from pathlib import Path
from weighbridge_hookspecs import hookimpl
class Plugin:
    def __init__(self, context):
        pass
    @hookimpl
    def weighbridge_deactivate(self, reason):
        Path(os.environ["SEEN"], "deactivate").write_text("begun")
        time.sleep(600)
"""


@attrs.define
class Started:
    """A command that runs, and the folder in which plugins leave their traces."""

    process: subprocess.Popen[str]
    seen: Path
    temporary: Path

    def wait_for(self, trace: str) -> str:
        """Wait until a plugin has left that trace; what it wrote."""
        file = self.seen / trace
        for _ in range(3000):
            if file.exists() and (text := file.read_text()):
                return text
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.01)
        raise AssertionError(f"no trace of {trace}")

    def wait_for_line(self, ending: str) -> None:
        """Wait until a line of standard error ends like that."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if line.rstrip().endswith(ending):
                return
        raise AssertionError(f"no line ends with {ending}")

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def finish(self) -> tuple[int, str, str]:
        """Its exit code, and what is left to read of its output and its errors."""
        out, err = self.process.communicate()
        return self.process.returncode, out, err


Start: TypeAlias = Callable[..., Started]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a command beside some plugins."""
    started: list[subprocess.Popen[str]] = []
    for name in ("seen", "tmp"):
        (tmp_path / name).mkdir()

    def start(*arguments: str, **plugins: str) -> Started:
        for name, source in plugins.items():
            write_distribution(tmp_path / "site", name, source)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WEIGHBRIDGE_")}
        environment |= {
            "PYTHONPATH": str(tmp_path / "site"),
            "WEIGHBRIDGE_CACHE": str(tmp_path / "cache"),
            "TMPDIR": str(tmp_path / "tmp"),
            "SEEN": str(tmp_path / "seen"),
            "WHO": arguments[0],
        }
        # a test run in the background of a shell may have been told to ignore Ctrl-C, and would pass that on
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            process = subprocess.Popen(
                [COMMAND, *arguments],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
            )
        finally:
            signal.signal(signal.SIGINT, before)
        started.append(process)
        return Started(process, tmp_path / "seen", tmp_path / "tmp")

    yield start
    for process in started:
        process.kill()
        process.communicate()


def is_gone(pid: int) -> bool:
    """Whether a process ended; one that nobody has reaped yet did."""
    for _ in range(500):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.01)
    return False


# --- weigh ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_weighing_leaves_nothing_behind(start: Start, number: signal.Signals) -> None:
    """No interpreter, no process that a plugin forked, no temporary folder; one line, and a shell's exit code."""
    weigh = start("weigh", hangs=HANGS)
    interpreter, forked = map(int, weigh.wait_for("import").split())
    weigh.send(number)
    assert weigh.finish() == (128 + number, "", "weighbridge: interrupted\n")
    assert is_gone(interpreter)
    assert is_gone(forked)
    assert list(weigh.temporary.iterdir()) == []


@LINUX
def test_an_interpreter_does_not_outlive_a_weighing_that_was_killed(start: Start) -> None:
    """Which can do nothing about it any more: the kernel does, for the interpreter but not for what it forked."""
    weigh = start("weigh", hangs=HANGS)
    interpreter, forked = map(int, weigh.wait_for("import").split())
    weigh.send(signal.SIGKILL)
    assert weigh.finish() == (-signal.SIGKILL, "", "")
    assert is_gone(interpreter)
    os.kill(forked, signal.SIGKILL)


# --- run --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_unloads_everything_when_it_is_told_to_end(start: Start, number: signal.Signals) -> None:
    """It has done what it should, so the exit code is 0; the receipts come last."""
    run = start("run", "crane", "moth", crane=SOUND, moth=SOUND)
    run.wait_for_line("running; Ctrl-C or SIGTERM unloads everything")
    run.send(number)
    code, out, err = run.finish()
    assert (code, err) == (0, "")
    assert [line.split()[:2] for line in out.splitlines()[-2:]] == [["moth", "unloaded"], ["crane", "unloaded"]]


def test_run_as_json_prints_its_document_when_it_is_told_to_end(start: Start) -> None:
    """And nothing before."""
    run = start("run", "clock", "--json", clock=SOUND)
    run.wait_for_line("running; Ctrl-C or SIGTERM unloads everything")
    run.send(signal.SIGTERM)
    code, out, _ = run.finish()
    document = json.loads(out)
    assert (code, [one["plugin"] for one in document["receipts"]]) == (0, ["clock"])
    assert [one["plugin"] for one in document["statement"]["plugins"]] == ["clock"]


def test_an_import_is_interrupted_and_what_was_loaded_is_unloaded(start: Start) -> None:
    """The operator need not wait for it, and sees the receipts of the others."""
    run = start("run", "crane", "hangs", crane=SOUND, hangs=HANGS)
    run.wait_for("import")
    run.send(signal.SIGINT)
    code, out, err = run.finish()
    assert (code, err) == (130, "weighbridge: interrupted while hangs was being loaded\n")
    assert [line.split()[:2] for line in out.split("\n\n")[-1].strip().splitlines()] == [
        ["plugin", "state"],
        ["crane", "unloaded"],
    ]


def test_a_plugin_that_swallows_ctrl_c_does_not_keep_the_host_running(start: Start) -> None:
    """It is loaded by then, and is unloaded like the others."""
    run = start("run", "deaf", deaf=DEAF)
    run.wait_for("import")
    run.send(signal.SIGINT)
    code, out, err = run.finish()
    assert (code, err) == (130, "weighbridge: interrupted\n")
    assert out.splitlines()[-1].split()[:2] == ["deaf", "unloaded"]


def test_a_second_ctrl_c_does_not_wait_for_the_unloading(start: Start) -> None:
    """What could not be unloaded is left as it is; the process ends anyway."""
    run = start("run", "crane", "slow", crane=SOUND, slow=SLOW_TO_LEAVE)
    run.wait_for_line("running; Ctrl-C or SIGTERM unloads everything")
    run.send(signal.SIGINT)
    run.wait_for("deactivate")
    run.send(signal.SIGINT)
    code, _, err = run.finish()
    assert code == 130
    assert err.splitlines()[-1] == "weighbridge: interrupted again; what was not unloaded is left as it is"


def test_run_shows_what_happens_and_the_accounts_as_often_as_it_is_told_to(start: Start) -> None:
    """Each time with the hour, for it may be read in a log."""
    run = start("run", "crane", "--every", "0.1", crane=SOUND)
    run.wait_for_line("running; Ctrl-C or SIGTERM unloads everything")
    assert run.process.stdout is not None
    shown = 0
    for line in run.process.stdout:
        shown += line.startswith("crane 1.0 ")
        if shown == 3:
            break
    run.send(signal.SIGINT)
    assert run.finish()[0] == 0


# --- the handler itself -----------------------------------------------------------------------------------------------


@pytest.fixture
def _handlers() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_handlers")
def test_only_the_first_signal_raises() -> None:
    """The second lets the clearing up go on."""
    with interruptible() as signals:
        with pytest.raises(Interrupted, match="interrupted by SIGTERM") as caught:
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    assert caught.value.exit_code == 143
    assert signals.came == [signal.SIGTERM, signal.SIGINT]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.usefixtures("_handlers")
def test_an_inner_block_counts_its_own() -> None:
    """So that the end of a command can be interrupted as well."""
    with interruptible():
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGINT)
        with interruptible(), pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("_handlers")
def test_a_signal_that_was_swallowed_can_be_raised_again() -> None:
    """And where none came there is nothing to raise."""
    with interruptible() as signals:
        signals.check()
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGINT)
    with pytest.raises(Interrupted):
        signals.check()


@pytest.mark.usefixtures("_handlers")
def test_what_nohup_ignores_stays_ignored() -> None:
    """SIGHUP, when the terminal is closed."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interruptible() as signals:
        signal.raise_signal(signal.SIGHUP)
    assert signals.came == []


def test_the_third_signal_ends_the_process_at_once() -> None:
    """Should the clearing up hang."""
    code = """
import signal
from weighbridge.cli.interrupts import interruptible
with interruptible():
    for _ in range(3):
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            pass
print("still here")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, b"")
