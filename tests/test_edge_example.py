"""The example of an edge device: its claims hold, and where one does not, it says so."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

pytestmark = pytest.mark.checkout

EXAMPLE: Final = Path(__file__).resolve().parents[1] / "examples/edge.py"
PLUGINS: Final = ["dispatcher", "index", "reader", "recorder"]
MIB: Final = 1024 * 1024
on_linux: Final = pytest.mark.skipif(sys.platform != "linux", reason="only Linux keeps to RLIMIT_AS")


def command(*arguments: str, folder: Path) -> dict[str, Any]:
    """How to start the example, with everything temporary in `folder`."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(("WEIGHBRIDGE_", "PYTEST_"))}
    return {"args": [sys.executable, str(EXAMPLE), *arguments], "env": others | {"TMPDIR": str(folder)}}


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run it; nothing of it is left in the folder."""
    done = subprocess.run(**command(*arguments, folder=folder), capture_output=True, encoding="utf-8", check=False)
    assert list(folder.iterdir()) == []
    return done


@pytest.fixture(scope="module")
def edge() -> Any:
    """The example as a module."""
    spec = spec_from_file_location("edge_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["edge_example"] = module  # attrs looks there
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules["edge_example"]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a run of few operations prints with ``--json``."""
    done = run("--json", "--operations", "400", folder=tmp_path_factory.mktemp("edge"))
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


# -- what it claims ------------------------------------------------------------------------------------------------


def test_every_claim_of_the_edge_device_holds(document: Any) -> None:
    """Both bounded processes stay under their ceiling, without a full collection, and everything comes back."""
    assert document["problems"] == []
    assert list(document["runs"]) == ["pool", "plain", "unbounded"]
    for figures in document["runs"].values():
        assert figures["operations"] == 400
        assert [one["plugin"] for one in figures["receipts"]] == PLUGINS
        assert {one["state"] for one in figures["receipts"]} == {"unloaded"}
        assert (figures["left_bytes"], figures["wrong_checksums"], figures["lost_checksums"]) == (0, 0, 0)
    pool, plain = document["runs"]["pool"], document["runs"]["plain"]
    assert max(pool["peak_resident_bytes"], plain["peak_resident_bytes"]) < 64 * MIB
    assert pool["full_collections"] == 0
    assert pool["traced_bytes_each"] <= 64


def test_pool_of_the_edge_device_saves_allocations(document: Any) -> None:
    """A buffer is allocated for every operation that needs one, unless there is a pool."""
    pool, plain = document["runs"]["pool"], document["runs"]["plain"]
    assert plain["blocks"] > 300
    assert pool["blocks"] < 20


@on_linux
def test_address_space_of_the_edge_device_is_capped(document: Any) -> None:
    """At the ceiling, where it is bounded; a process cannot have taken more."""
    caps = {way: figures["cap_bytes"] for way, figures in document["runs"].items()}
    assert caps == {"pool": 64 * MIB, "plain": 64 * MIB, "unbounded": None}
    assert document["runs"]["pool"]["peak_address_bytes"] <= 64 * MIB


def test_table_of_the_edge_device_is_for_people(edge: Any, document: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """It has a line for every figure, for every receipt, and for the end of the process without bounds."""
    breach = edge.Death("killed by SIGABRT", "MemoryError in work, b/c.py")
    plan = edge.Plan(operations=400, ceiling=64 * MIB, cap=64 * MIB)
    edge.show(plan, {"runs": document["runs"], "breach": breach})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("400 reads and writes of 64 KiB by 4 plugins, under a ceiling of 64.0 MiB")
    assert lines[2].split() == ["pool", "plain", "unbounded"]
    peaks = next(line for line in lines if line.startswith("resident at the peak"))
    assert peaks.split()[4::2] == [f"{one['peak_resident_bytes'] / MIB:.1f}" for one in document["runs"].values()]
    assert sum("unloaded  0 of" in line for line in lines) == 3 * len(PLUGINS)
    assert lines[-1].endswith("the process ended with killed by SIGABRT: MemoryError in work, b/c.py")


# -- a process that takes too much ---------------------------------------------------------------------------------


@on_linux
def test_process_without_bounds_does_not_survive_the_cap(edge: Any, tmp_path: Path) -> None:
    """The cap is real: what keeps the others alive is that they stay under the ceiling."""
    edge.install_plugins(tmp_path / "site")
    plan = edge.Plan(operations=4000, ceiling=64 * MIB, cap=64 * MIB)
    death = edge.run(tmp_path / "site", "unbounded", plan, plan.cap)
    assert isinstance(death, edge.Death), death
    assert "Memory" in death.last_words or "hung" in death.last_words


@on_linux
def test_edge_device_that_dies_is_reported(tmp_path: Path) -> None:
    """What the process said last, what it had, and what to do, with exit code 1."""
    done = run("--operations", "40", "--address-space", "20 MiB", folder=tmp_path)
    assert done.returncode == 1
    assert "does not hold: pool: the process ended with exit code 1: " in done.stderr
    assert "It had 20.0 MiB of address space; if that was too little, raise --address-space" in done.stderr


def test_edge_device_that_is_not_admitted_is_reported(tmp_path: Path) -> None:
    """A ceiling that leaves no room is said by the host's own words."""
    done = run("--operations", "40", "--ceiling", "4 MiB", "--address-space", "0", folder=tmp_path)
    assert done.returncode == 1
    assert "AdmissionRefused" in done.stderr
    assert "of the ceiling of 4.0 MiB" in done.stderr


@pytest.mark.parametrize(
    ("code", "cause"),
    [(3, "exit code 3"), (-9, "killed by SIGKILL"), (-250, "killed by signal 250")],
)
def test_cause_of_death_of_the_edge_device_is_named(edge: Any, code: int, cause: str) -> None:
    """An exit code, or a signal by its name if it has one."""
    assert edge.cause_of_death(code) == cause


@pytest.mark.parametrize(
    ("errors", "words"),
    [
        ("", "it said nothing"),
        ("Killed\n\n", "Killed"),
        ("Timeout (0:01:00)!\nThread 0x1 (most recent call first):\n", "it hung. Timeout (0:01:00)!"),
        (
            'Traceback (most recent call last):\n  File "/a/b/c.py", line 1, in work\n    x\nMemoryError\n\n'
            'During handling of the above:\n\nTraceback\n  File "/a/d/e.py", line 1, in end\n    y\nOSError: gone\n',
            "MemoryError in work, b/c.py",
        ),
    ],
)
def test_last_words_of_the_edge_device_are_the_first_error(edge: Any, errors: str, words: str) -> None:
    """Others may only follow from it."""
    assert edge.last_words(errors) == words


# -- claims that do not hold ---------------------------------------------------------------------------------------


def stranded(run: Any) -> None:
    run["receipts"][2] |= {"state": "stranded", "survivors": ["module weighbridge_reader: a global"]}


BROKEN: Final[list[tuple[str, Callable[[Any], object], str]]] = [
    ("pool", lambda one: one.update(peak_resident_bytes=64 * MIB), "pool: 64.0 MiB were resident at the peak"),
    ("plain", lambda one: one.update(peak_resident_bytes=65 * MIB), "plain: 65.0 MiB were resident at the peak"),
    ("pool", lambda one: one.update(full_collections=1), "pool: the loop caused 1 full collections"),
    ("pool", lambda one: one.update(traced_bytes_each=64.1), "pool: each operation left 64.1 bytes"),
    ("pool", lambda one: one.update(refusals=2), "pool: 2 buffers were refused"),
    ("unbounded", lambda one: one.update(left_bytes=3), "unbounded: 3 bytes of buffers are left"),
    ("plain", lambda one: one.update(wrong_checksums=4), "plain: 4 readings were not what had been written"),
    ("plain", lambda one: one.update(lost_checksums=5), "plain: 5 readings are not in the index"),
    ("plain", stranded, "plain: reader is stranded: module weighbridge_reader: a global"),
]


@pytest.mark.parametrize(("way", "damage", "sentence"), BROKEN)
def test_claim_of_the_edge_device_that_does_not_hold_is_told(
    edge: Any, document: Any, way: str, damage: Callable[[Any], object], sentence: str
) -> None:
    """Each figure that is not as it should be makes one sentence, and none does if all is well."""
    plan, runs = edge.Plan(operations=400, ceiling=64 * MIB, cap=None), copy.deepcopy(document["runs"])
    assert list(edge.problems(plan, runs, None)) == []
    damage(runs[way])
    (found,) = edge.problems(plan, runs, None)
    assert found.startswith(sentence)


def test_cap_of_the_edge_device_that_stops_nobody_is_told(edge: Any, document: Any) -> None:
    """If the process without bounds takes more than the cap, and goes on under it, nothing is proven."""
    plan, runs = edge.Plan(operations=400, ceiling=64 * MIB, cap=64 * MIB), copy.deepcopy(document["runs"])
    runs["unbounded"]["peak_address_bytes"] = 60 * MIB
    assert list(edge.problems(plan, runs, runs["unbounded"])) == []
    runs["unbounded"]["peak_address_bytes"] = 100 * MIB
    (found,) = edge.problems(plan, runs, runs["unbounded"])
    assert found == "unbounded under the cap: the process went on, so the cap proves nothing"


def test_system_without_a_cap_is_named(
    edge: Any, document: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the address space cannot be capped the example goes on, and says so."""
    monkeypatch.setattr(edge, "IS_CAPPED", False)
    edge.show(edge.Plan(operations=400, ceiling=64 * MIB, cap=None), {"runs": document["runs"], "breach": None})
    assert f"not capped, for {sys.platform} does not keep to RLIMIT_AS" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--operations", "1"], "argument --operations: '1': give a whole number from 2 up"),
        (["--operations", "many"], "argument --operations: 'many': give a whole number from 2 up"),
        (["--ceiling", "0"], "argument --ceiling: '0' leaves no room for anything"),
        (["--ceiling", "64 MB of RAM"], "argument --ceiling: '64 MB of RAM' is not a size"),
        (["--address-space", "-1"], "argument --address-space: "),
    ],
)
def test_option_of_the_edge_device_that_makes_no_sense_is_refused(
    arguments: list[str], sentence: str, tmp_path: Path
) -> None:
    """It names the option, and nothing is run."""
    done = run(*arguments, folder=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stderr


# -- interrupted ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_edge_device_that_is_interrupted_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM, to the example alone, end the process under way, and no file is left."""
    with subprocess.Popen(**command("--operations", "10000000", folder=tmp_path), stderr=subprocess.PIPE) as process:
        example = psutil.Process(process.pid)
        while not (children := example.children()) or not list(tmp_path.rglob("readings")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        _, errors = process.communicate()
    assert process.returncode == 130
    assert errors.startswith(b"interrupted")
    psutil.wait_procs(children, timeout=60)
    assert not any(child.is_running() for child in children)
    assert list(tmp_path.iterdir()) == []
