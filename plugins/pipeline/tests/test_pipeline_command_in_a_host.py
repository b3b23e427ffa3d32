"""``weighbridge pipeline`` as somebody types it; skipped where ``weighbridge[testing]`` is not installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("weighbridge.testing", reason="pip install 'weighbridge[testing]' to test the plugin in a host")

SOON = 60.0

ORDER = """
import os, signal
from pathlib import Path
from weighbridge_pipeline import Builder

order = Builder("order")
ledger = Path("ledger")

def write(line):
    with ledger.open("a") as file:
        file.write(line + "\\n")

@order.stage(undo=lambda job: write(f"release {job.captured}"))
def reserve(job):
    write("reserve")
    return 7

@order.stage(needs="reserve", undo=lambda job: write(f"pay back {job.captured}"))
def pay(job):
    if "CRASH" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)
    write("pay")
    return 5
"""


def weighbridge(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from weighbridge.cli import main; main()",
            "pipeline",
            "--store",
            "kept.sqlite3",
            *words,
        ],
        cwd=folder,
        env={**os.environ, "WEIGHBRIDGE_CACHE": str(folder), **variables},
        capture_output=True,
        text=True,
        timeout=SOON,
        check=False,
    )


def document(ran: subprocess.CompletedProcess[str]) -> Any:
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="SIGKILL is POSIX")
def test_what_a_crash_left_is_shown_and_brought_to_an_end(tmp_path: Path) -> None:
    """A process that is killed in a stage leaves a transaction open; others see it, and undo each stage once."""
    (tmp_path / "order.py").write_text(ORDER)
    killed = weighbridge(tmp_path, "run", "order.py", "--durable", CRASH="1")
    assert killed.returncode == -9, killed.stderr
    (left,) = document(weighbridge(tmp_path, "status", "--json"))["open"]
    assert left["stages"] == {"reserve": "done", "pay": "running"}
    (result,) = document(weighbridge(tmp_path, "recover", "order.py", "--json"))["recovered"]
    assert result["outcome"] == "rolled back"
    assert (tmp_path / "ledger").read_text().splitlines() == ["reserve", "pay", "pay back 5", "release 7"]


def test_a_misspelt_setting_is_all_that_is_said(tmp_path: Path) -> None:
    """A load that fails is undone to the end: the one line is about the setting, and about nothing that is left."""
    (tmp_path / "host.toml").write_text("[plugins.pipeline]\nmax_transaction = 3\n")
    ran = weighbridge(tmp_path, "--config", "host.toml", "status")
    assert ran.returncode == 3
    (line,) = ran.stderr.splitlines()
    assert line.endswith('did you mean "max_transactions"?')
