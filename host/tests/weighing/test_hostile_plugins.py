"""Weighing plugins that crash, hang, print, fork or close what is not theirs, beside one that does not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs
import psutil
import pytest

from weighbridge.admission.weights import Weights
from weighbridge.discovery.candidates import discover
from weighbridge.fabricate import write_distribution

Weighing: TypeAlias = dict[str, Any]

COMMAND: Final = shutil.which("weighbridge", path=str(Path(sys.executable).parent)) or "weighbridge"

PLUGIN: Final = (
    "class Plugin:\n    def __init__(self, context):\n        self.ballast = [bytes(1000) for _ in range(100)]\n"
)

HOSTILE: Final = {
    "closes": "import os\nos.closerange(0, 3)\n",
    "exits": "import os\nos._exit(7)\n",
    "forks": """\
import os, time
goes_on = os.fork()
if goes_on and not os.fork():
    with open(os.environ["HOSTILE_FILE"], "w") as file:
        file.write(str(os.getpid()))
    time.sleep(600)
""",
    "leaves": "import sys\nsys.exit('I am off')\n",
    "lingers": "import threading\nthreading.Thread(target=threading.Event().wait).start()\n",
    "presses": "raise KeyboardInterrupt\n",
    "raises": "raise ValueError('first line\\nsecond line')\n",
    "reads": "import sys\nassert sys.stdin.read() == ''\n",
    "segfaults": "import ctypes\ndef fall():\n    ctypes.string_at(0)\nfall()\n",
    "shouts": """\
import ctypes, os, sys
print("{", flush=True)
print("[", file=sys.stderr, flush=True)
os.write(1, b"]")
ctypes.CDLL(None).puts(b"}")
ctypes.CDLL(None).fflush(None)
""",
}


@attrs.frozen
class Finished:
    """What a run of the command came to."""

    code: int
    out: str
    err: str

    def plugin(self, name: str) -> Weighing:
        (found,) = [one for one in json.loads(self.out)["plugins"] if one["name"] == name]
        assert isinstance(found, dict)
        return found


@attrs.frozen
class Runs:
    """Three weighings that ran at the same time: of the whole mob, of one that hangs, and of the mob as a table."""

    folder: Path
    mob: Finished
    hung: Finished
    table: Finished


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("hostile")
    for name, source in HOSTILE.items():
        write_distribution(folder / "site", name, source + PLUGIN)
    write_distribution(folder / "site", "good", PLUGIN)
    write_distribution(folder / "site", "hangs", "import time\ntime.sleep(600)\n", group="slow")
    write_distribution(folder / "site", "good-too", PLUGIN, group="slow")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WEIGHBRIDGE_")}
    environment |= {
        "PYTHONPATH": str(folder / "site"),
        "WEIGHBRIDGE_CACHE": str(folder / "cache"),
        "WEIGHBRIDGE_CEILING": "1 MiB",
        "WEIGHBRIDGE_DISABLED_PLUGINS": "good",
        "HOSTILE_FILE": str(folder / "forked"),
        "TMPDIR": str(folder / "tmp"),
    }
    (folder / "tmp").mkdir()
    names = sorted([*HOSTILE, "good"])
    commands = (
        ["weigh", "--json", *names],
        ["weigh", "--json", "--group", "slow", "--timeout", "6"],
        ["weigh", "--no-save", "exits", "good", "raises"],
    )
    processes = [
        subprocess.Popen(
            [COMMAND, *command],
            env=environment,
            stdin=subprocess.PIPE,  # it has nothing to read, and does not end
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        for command in commands
    ]
    finished = []
    for process in processes:
        out, err = process.communicate()
        finished.append(Finished(process.returncode, out, err))
    return Runs(folder, *finished)


def is_gone(pid: int) -> bool:
    """Whether a process ended; one that nobody has reaped yet did."""
    for _ in range(200):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("name", ["closes", "forks", "good", "lingers", "reads", "shouts"])
def test_a_plugin_that_can_be_loaded_is_weighed_whatever_else_it_does(runs: Runs, name: str) -> None:
    """Its figures are there, and those of its ballast among them."""
    weighing = runs.mob.plugin(name)
    assert (weighing["status"], weighing["error"]) == ("ok", None)
    assert weighing["traced_bytes"] > 100 * 1000
    assert weighing["reclaimed_bytes"] > 98 * 1000  # a thread that lingers keeps a little
    assert weighing["resident_bytes"] is not None
    assert weighing["modules"] == 1
    assert weighing["import_seconds"] > 0


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("exits", "crashed", "its interpreter ended with exit code 7 before there was a result"),
        ("leaves", "failed", "it called sys.exit('I am off')"),
        ("presses", "failed", "KeyboardInterrupt"),
        ("raises", "failed", "ValueError: first line\nsecond line"),
        ("segfaults", "crashed", "its interpreter was ended by SIGSEGV, at "),
    ],
)
def test_a_plugin_that_cannot_be_loaded_has_no_figures_and_a_reason(
    runs: Runs, name: str, status: str, said: str
) -> None:
    """What is not known is null, not 0."""
    weighing = runs.mob.plugin(name)
    assert weighing["status"] == status
    assert said in weighing["error"]
    figures = ("traced_bytes", "resident_bytes", "import_seconds", "modules", "reclaimed_bytes", "reclaimed_share")
    assert [weighing[figure] for figure in figures] == [None] * len(figures)


def test_a_crash_in_compiled_code_names_the_plugins_line(runs: Runs) -> None:
    """The line that called it, and not the one in the standard library that it happened in."""
    assert runs.mob.plugin("segfaults")["error"].endswith('weighbridge_segfaults/__init__.py", line 3 in fall')


def test_a_plugin_that_hangs_is_killed_and_the_next_is_weighed(runs: Runs) -> None:
    """After the time that it was given."""
    hung = runs.hung.plugin("hangs")
    assert (hung["status"], hung["error"]) == ("timeout", "no result after 6 s; it was killed")
    assert runs.hung.plugin("good-too")["status"] == "ok"
    assert (runs.hung.code, runs.hung.err) == (3, "")


def test_nothing_of_them_reaches_the_output_of_the_command(runs: Runs) -> None:
    """Standard output is one JSON document, and standard error is empty."""
    assert sorted(one["name"] for one in json.loads(runs.mob.out)["plugins"]) == sorted([*HOSTILE, "good"])
    assert (runs.mob.code, runs.mob.err) == (3, "")


def test_nothing_of_them_is_left(runs: Runs) -> None:
    """Neither a process that one forked, nor a temporary folder."""
    assert is_gone(int((runs.folder / "forked").read_text()))
    assert list((runs.folder / "tmp").iterdir()) == []


def test_a_weight_is_kept_of_whatever_was_weighed(runs: Runs) -> None:
    """Where admission looks for it; what failed has none."""
    weights = Weights(runs.folder / "cache/weights")
    kept = {
        one.name
        for one in discover("weighbridge", [str(runs.folder / "site")]).candidates
        if weights.get(one) is not None
    }
    assert kept == {"closes", "forks", "good", "lingers", "reads", "shouts"}


def test_a_table_has_a_row_for_each_and_a_line_for_each_that_failed(runs: Runs) -> None:
    """The reason is one line on standard error, however many the plugin made of it."""
    lines = runs.table.out.splitlines()
    assert [line.split()[0] for line in lines] == ["plugin", "exits", "good", "raises"]
    assert [line.split()[-1] for line in lines] == ["survivors", "crashed", "none", "failed"]
    assert runs.table.err.splitlines() == [
        "weighbridge: exits crashed: its interpreter ended with exit code 7 before there was a result",
        "weighbridge: raises failed: importing weighbridge_raises:Plugin failed: ValueError: first line second line",
    ]
