"""Two hundred rounds of load, use and unload of installed plugins: nothing may grow. Run by ``tox -e reclaim``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

DRIVER: Final = Path(__file__).with_name("unload_rounds.py")
ROUNDS: Final = 200
MOST_BYTES: Final = 1024
PLUGINS: Final = (
    ("weighbridge", "lantern"),
    ("flake8.extension", "B"),
    ("flake8.extension", "C90"),
    ("markdown.extensions", "tables"),
)


@pytest.mark.rounds
@pytest.mark.parametrize(("group", "name"), PLUGINS)
def test_nothing_grows_however_often_a_plugin_comes_and_goes(group: str, name: str) -> None:
    """Less than a KiB of traced memory a round, and no thread and no descriptor, after a warm-up."""
    command = [sys.executable, "-X", "tracemalloc=1", str(DRIVER), group, name, str(ROUNDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    print(name, figures)
    assert figures["bytes_per_round"] < MOST_BYTES
    assert (figures["threads"], figures["descriptors"], figures["survivors"]) == (0, 0, 0)
