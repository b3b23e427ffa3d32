"""The command on a terminal, in a pipe that nobody reads, and with its descriptors closed."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

import attrs
import pytest

from weighbridge.fabricate import write_distribution

COMMAND: Final = shutil.which("weighbridge", path=str(Path(sys.executable).parent)) or "weighbridge"
PLUGIN: Final = "class Plugin:\n    def __init__(self, context):\n        pass\n"
ESCAPE: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
GROUP: Final = "terminals"
CTRL_C: Final = b"\x03"


@attrs.frozen
class Seen:
    """What a person saw, and the exit code."""

    code: int
    text: str

    @property
    def lines(self) -> list[str]:
        """As they stand in the end, without colours."""
        text = ESCAPE.sub("", self.text).replace("\r\n", "\n")
        return [line.rstrip().rpartition("\r")[2] for line in text.split("\n")]


OnTerminal: TypeAlias = Callable[..., Seen]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A group of two plugins, and nothing that says how a terminal is to be treated."""
    unwanted = ("WEIGHBRIDGE_", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    for name in ("crane", "moth"):
        write_distribution(tmp_path / "site", name, PLUGIN, group=GROUP)
    return environment | {
        "PYTHONPATH": str(tmp_path / "site"),
        "WEIGHBRIDGE_CACHE": str(tmp_path / "cache"),
        "TERM": "xterm-256color",
    }


def on_terminal(
    arguments: list[str],
    environment: Mapping[str, str],
    *,
    columns: int = 100,
    press: Mapping[str, bytes] | None = None,
) -> Seen:
    """Run the command on a terminal of its own.

    :param press: keys to press once a text was seen.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    code = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, COMMAND, *arguments],
        env=dict(environment),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    text, waiting = "", dict(press or {})
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not select.select([master], [], [], 0.1)[0]:
            continue
        try:
            text += os.read(master, 65536).decode()
        except OSError:  # as Linux says that nobody has the other end any more
            break
        for awaited in [awaited for awaited in waiting if awaited in text]:
            os.write(master, waiting.pop(awaited))
    os.close(master)
    return Seen(process.wait(10), text)


# --- a terminal -------------------------------------------------------------------------------------------------------


def test_a_terminal_shows_a_table_with_a_bold_heading(environment: dict[str, str]) -> None:
    """On 80 columns there is room for it."""
    seen = on_terminal(["list", "--group", GROUP], environment, columns=80)
    assert (seen.code, "\x1b[1m" in seen.text) == (0, True)
    assert [line.split()[0] for line in seen.lines[:3]] == ["plugin", "crane", "moth"]
    assert max(map(len, seen.lines)) <= 80


@pytest.mark.parametrize("arguments", [["list"], ["weigh", "a-rather-long-name"], ["run", "--once"]])
def test_a_narrow_terminal_cuts_nothing_off(arguments: list[str], environment: dict[str, str]) -> None:
    """60 columns, and each figure under the name of what it is."""
    site = Path(environment["PYTHONPATH"])
    write_distribution(site, "a-rather-long-name", PLUGIN, distribution="weighbridge-has-one-too", group=GROUP)
    seen = on_terminal([*arguments, "--group", GROUP], environment, columns=60)
    assert seen.code == 0
    assert max(map(len, seen.lines)) <= 60
    assert "\N{HORIZONTAL ELLIPSIS}" not in seen.text
    assert any(line.startswith("a-rather-long-name") for line in seen.lines)


def test_no_colour_means_no_escape_sequence_at_all(environment: dict[str, str]) -> None:
    """https://no-color.org."""
    seen = on_terminal(["list", "--group", GROUP], environment | {"NO_COLOR": "1"})
    assert (seen.code, ESCAPE.findall(seen.text)) == (0, [])


def test_a_weighing_shows_how_far_it_is(environment: dict[str, str]) -> None:
    """The bar goes when it is done, and the table stays."""
    seen = on_terminal(["weigh", "--group", GROUP], environment)
    assert seen.code == 0
    for sign in ("weighing crane", "weighing moth", "0/2", "1/2"):
        assert sign in ESCAPE.sub("", seen.text)
    assert seen.text.rindex("\x1b[2K") < seen.text.rindex("survivors")


def test_ctrl_c_on_a_terminal_ends_a_weighing_with_one_line(environment: dict[str, str]) -> None:
    """The bar goes, and the line stands where the terminal showed "^C"."""
    write_distribution(Path(environment["PYTHONPATH"]), "hangs", "import time\ntime.sleep(600)\n", group="slow")
    seen = on_terminal(["weigh", "--group", "slow"], environment, press={"weighing hangs": CTRL_C})
    assert seen.code == 130
    assert seen.lines[-2:] == ["weighbridge: interrupted", ""]


def test_a_terminal_shows_the_accounts_while_plugins_run(environment: dict[str, str]) -> None:
    """Until Ctrl-C; then the receipts, and nothing of the display is left."""
    seen = on_terminal(["run", "--group", GROUP, "--every", "0.1"], environment, press={"running for 0:00:00": CTRL_C})
    assert seen.code == 0
    assert seen.text.count("crane 1.0") >= 2  # while it ran, and in the end
    assert "\x1b[?25h" in seen.text  # the cursor is back
    end = "\n".join(seen.lines[-4:])
    assert re.search(r"^moth +unloaded.*\ncrane +unloaded", end, re.MULTILINE)


# --- no terminal ------------------------------------------------------------------------------------------------------


def test_nothing_but_the_result_goes_into_a_pipe(environment: dict[str, str]) -> None:
    """No bar, no colours, no escape sequences, even where a colour is forced on others."""
    done = subprocess.run(
        [COMMAND, "weigh", "crane", "--group", GROUP],
        env=environment | {"FORCE_COLOR": "1"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stderr == ""
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["plugin", "crane"]
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("arguments", [["list", "--json"], ["run", "--once"]])
def test_a_pipe_that_nobody_reads_is_no_error(arguments: list[str], environment: dict[str, str]) -> None:
    """As of ``weighbridge list | head -1``; plugins are unloaded all the same."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stream:
        done = subprocess.run(
            [COMMAND, *arguments, "--group", GROUP],
            env=environment,
            stdout=stream,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", ["list", "run --once --json", "weigh --no-save crane"])
def test_closed_descriptors_are_no_error(arguments: str, environment: dict[str, str]) -> None:
    """All three of them."""
    command = f'exec "$0" {arguments} --group {GROUP} <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", command, COMMAND], env=environment, check=False).returncode == 0


def test_standard_error_may_be_closed_alone(environment: dict[str, str]) -> None:
    """What goes wrong is then said to nobody, and what a plugin prints does not get into the document."""
    write_distribution(Path(environment["PYTHONPATH"]), "loud", f"print('hello')\n{PLUGIN}", group=GROUP)
    command = f'exec "$0" run --once --json --group {GROUP} 2>&-'
    done = subprocess.run(["sh", "-c", command, COMMAND], env=environment, stdout=subprocess.PIPE, check=True)
    assert len(json.loads(done.stdout)["receipts"]) == 3


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux's")
def test_a_full_disk_is_one_line(environment: dict[str, str]) -> None:
    """And not a traceback, nor a second complaint on the way out."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [COMMAND, "list", "--group", GROUP],
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == "weighbridge: standard output cannot be written: No space left on device\n"


def test_letters_that_the_output_does_not_have_are_written_out(environment: dict[str, str]) -> None:
    """A name that cannot be encoded does not stop the table."""
    write_distribution(
        Path(environment["PYTHONPATH"]), "plover", PLUGIN, distribution="rybitwa-białoczelna", group=GROUP
    )
    done = subprocess.run(
        [COMMAND, "list", "--group", GROUP],
        env=environment | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        encoding="latin-1",
        check=True,
    )
    assert r"rybitwa-bia\u0142oczelna 1.0" in done.stdout
