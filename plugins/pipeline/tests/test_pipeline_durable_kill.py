"""Processes that are killed in the middle of a durable transaction: what is left is brought to an end, once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("weighbridge.testing", reason="pip install 'weighbridge[testing]': the journal is the host's")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

DRIVER = Path(__file__).with_name("pipeline_kill_driver.py")
SIGKILLED = -9


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Every point at which the process was killed, and what became of it; in an interpreter that has no threads."""
    folder = tmp_path_factory.mktemp("killed")
    done = subprocess.run([sys.executable, str(DRIVER), str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("on_open", ["rollback", "resume"])
@pytest.mark.parametrize("fails", [False, True], ids=["forwards", "rolling back"])
def test_a_kill_at_any_step_leaves_each_effect_once_or_undone_once(
    cases: list[dict[str, Any]], fails: bool, on_open: str
) -> None:
    """Around each record and each effect of six stages and their undos, and once more while that is recovered."""
    mine = [case for case in cases if (case["fails"], case["on_open"]) == (fails, on_open)]
    assert [case for case in mine if case["problems"]] == []
    killed = [case for case in mine if case["killed"][0] == SIGKILLED]
    assert len(killed) > 25
    assert any(case["killed"][1] == SIGKILLED for case in killed)


def test_every_kind_of_point_was_hit(cases: list[dict[str, Any]]) -> None:
    """Before and behind records, stages and undos: otherwise the test above would show less than it says."""
    hit = {" ".join(case["point"].split()[:-1]) for case in cases if case["killed"][0] == SIGKILLED}
    wheres = ("ahead of", "behind")
    assert hit == {f"{where} {what}" for where in wheres for what in ("record", "do", "undo")}
