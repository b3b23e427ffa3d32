"""The examples run as their readers run them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

pytestmark = pytest.mark.checkout

EXAMPLES: Final = Path(__file__).resolve().parents[1] / "examples"


def run(*arguments: str, folder: Path, **variables: str) -> str:
    """Run Python in `folder`; what it printed."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("WEIGHBRIDGE_", "PYTEST_"))
    }
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment | {"WEIGHBRIDGE_CACHE": str(folder / "cache")} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_an_application_hosts_the_lantern(tmp_path: Path) -> None:
    """It loads it, calls it, draws its account, and unloads it without a trace."""
    lines = run(str(EXAMPLES / "embed.py"), folder=tmp_path, WEIGHBRIDGE_DISABLED_PLUGINS="[!l]*").splitlines()
    lines = [line for line in lines if " is blocked " not in line]
    assert lines[0] == "lantern is active"
    assert re.fullmatch(r"Hello Ada! The load of this machine is [\d.]+\.", lines[1])
    assert re.fullmatch(r"lantern holds [\d.]+ KiB, and \{.*'timer': 1.*\} on lease", lines[2])
    assert re.fullmatch(r"lantern is unloaded, 0 of [1-9]\d* things survived", lines[3])
    assert len(lines) == 4


def test_an_application_gets_along_without_the_lantern(tmp_path: Path) -> None:
    """What a plugin provides is asked for, not relied upon."""
    lines = run(str(EXAMPLES / "embed.py"), folder=tmp_path, WEIGHBRIDGE_DISABLED_PLUGINS="lantern").splitlines()
    assert "Hello Ada! Nobody here knows how busy this machine is." in lines


def test_a_copy_of_the_lantern_is_tested_whole_where_a_host_is_installed(tmp_path: Path) -> None:
    """Away from this repository, with none of its settings; nothing is skipped, although it may be elsewhere."""
    shutil.copytree(EXAMPLES / "lantern", tmp_path / "lantern", ignore=shutil.ignore_patterns("__pycache__"))
    said = run("-m", "pytest", "-p", "no:cacheprovider", folder=tmp_path / "lantern")
    passed = re.search(r"=+ (\d+) passed in [\d.]+s =+$", said.strip())
    assert passed is not None, said
    tests = sum(file.read_text().count("\ndef test_") for file in (EXAMPLES / "lantern/tests").glob("test_*.py"))
    assert int(passed[1]) == tests
