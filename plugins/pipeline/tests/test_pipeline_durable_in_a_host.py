"""Durable transactions in a host, with its journal and its store; each test in processes of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("weighbridge.testing", reason="pip install 'weighbridge[testing]': the journal is the host's")

PRELUDE = """
import json, os, signal, sys, threading
from pathlib import Path
from weighbridge.isolation import IsolatedHost

folder = Path(sys.argv[1])

def loaded():
    host = IsolatedHost(store=folder / "store")
    host.allow("pipeline")
    host.load("pipeline")
    return host, host.capabilities["pipeline"]

def act(verb, name):
    with open(folder / "ledger", "a") as ledger:
        ledger.write(f"{verb} {name}\\n")

def pipeline_of(pipelines, last):
    Stage = sys.modules["weighbridge_pipeline"].Stage
    return pipelines.build("p", [
        Stage(name="a", run=lambda job: act("do", "a") or "a" * 30_000, undo=lambda job: act("undo", job.captured[:1])),
        Stage(name="b", run=last, needs="a"),
    ])

def die(job):
    os.kill(os.getpid(), signal.SIGKILL)
"""

KILLED = "host, pipelines = loaded(); pipelines.run(pipeline_of(pipelines, die), durable=True)"

RECOVERED = """
host, pipelines = loaded()
opened = [dict(one.stages) for one in pipelines.open_transactions()]
results = pipelines.recover([pipeline_of(pipelines, lambda job: None)]).results
outcomes = [one.outcome for one in results]
print(json.dumps({"open": opened, "outcomes": outcomes}))
"""

UNLOADED = """
found = []
for _ in range(3):
    host, pipelines = loaded()
    good = pipelines.run(pipeline_of(pipelines, lambda job: len(job["a"])), durable=True)
    plain = pipelines.run(pipeline_of(pipelines, lambda job: len(job["a"])))
    try:
        pipelines.run(pipeline_of(pipelines, lambda job: 1 / 0), durable=True)
    except ExceptionGroup as error:
        outcome = error.result.outcome
        error.__traceback__ = None
    outcomes = [good.outcome, plain.outcome, outcome, pipelines.recover([]).results]
    del pipelines, good, plain
    receipt = host.unload("pipeline")
    host.close()
    found.append({
        "outcomes": outcomes, "state": receipt.state, "survivors": [one.name for one in receipt.survivors],
        "failures": list(receipt.failures), "threads": threading.active_count(),
        "files": len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0,
    })
print(json.dumps(found))
"""


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PRELUDE + code, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def answer(code: str, folder: Path) -> Any:
    done = python(code, folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(autouse=True)
def _like_a_fresh_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing was weighed yet."""
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))


def ledger(folder: Path) -> list[str]:
    return (folder / "ledger").read_text().splitlines()


def test_a_killed_host_leaves_a_transaction_that_the_next_one_ends(tmp_path: Path) -> None:
    """Loading sweeps nothing that it needs: the state of the undo was in the store."""
    assert python(KILLED, tmp_path).returncode == -9
    assert answer(RECOVERED, tmp_path) == {"open": [{"a": "done"}], "outcomes": ["rolled back"]}
    assert ledger(tmp_path) == ["do a", "undo a"]
    assert answer(RECOVERED, tmp_path) == {"open": [], "outcomes": []}


def test_a_torn_tail_of_the_journal_loses_what_nobody_was_told_of(tmp_path: Path) -> None:
    """A crash of the machine tears the record that was just written: here that is garbage behind the last whole one."""
    assert python(KILLED, tmp_path).returncode == -9
    (segment,) = [path for path in tmp_path.rglob("*") if path.is_file() and "transactions" in str(path.parent)][-1:]
    with segment.open("ab") as file:
        file.write(b"\x00\x01torn")
    assert answer(RECOVERED, tmp_path)["outcomes"] == ["rolled back"]
    assert ledger(tmp_path) == ["do a", "undo a"]


def test_unloading_gives_back_all_that_durable_transactions_took(tmp_path: Path) -> None:
    """Again and again: no object, no thread, no open file; in an interpreter that has nothing else."""
    rounds = answer(UNLOADED, tmp_path)
    files = {each.pop("files") for each in rounds[1:]}
    rounds[0].pop("files")
    outcomes = ["done", "done", "rolled back", []]
    clean = {"outcomes": outcomes, "state": "unloaded", "survivors": [], "failures": [], "threads": 1}
    assert rounds == [clean] * 3
    assert len(files) == 1


def test_two_hosts_cannot_have_one_journal(tmp_path: Path) -> None:
    """The second one is told so, and the transactions of the first are not touched."""
    code = """
host, pipelines = loaded()
pipelines.open_transactions()
import subprocess
second = "from weighbridge.leases.journal import Journal; import sys; Journal(sys.argv[1])"
journal = [path for path in folder.rglob("*") if path.is_dir() and path.name.endswith("transactions")][0]
done = subprocess.run([sys.executable, "-c", second, str(journal)], capture_output=True, text=True)
print(json.dumps(done.stderr.splitlines()[-1]))
"""
    assert "LeaseError" in answer(code, tmp_path)
