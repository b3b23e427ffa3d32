"""The installed command on the lantern, from the first look to a wheel of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Final

import attrs
import pytest

COMMAND: Final = shutil.which("weighbridge", path=str(Path(sys.executable).parent)) or "weighbridge"
LANTERN: Final = Path(__file__).resolve().parents[1] / "examples/lantern"


@attrs.frozen
class Finished:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def begin(cache: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the command with a cache of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WEIGHBRIDGE_")}
    return subprocess.Popen(
        [COMMAND, *arguments],
        env=environment | {"WEIGHBRIDGE_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def finish(process: subprocess.Popen[str]) -> Finished:
    out, err = process.communicate()
    return Finished(process.returncode, out, err)


def weighbridge(cache: Path, *arguments: str) -> Finished:
    """Run the command with a cache of its own."""
    return finish(begin(cache, *arguments))


@pytest.fixture(scope="module", autouse=True)
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """It takes its time, so it is begun while the others are tested."""
    with begin(tmp_path_factory.mktemp("demo"), "demo") as process:
        yield process


def test_the_command_is_installed_and_tells_its_version(tmp_path: Path) -> None:
    """That of the distribution."""
    expected = f"weighbridge, version {version('weighbridge')}\n"
    assert weighbridge(tmp_path, "--version") == Finished(0, expected, "")


def test_a_weighing_is_what_admission_goes_by(tmp_path: Path) -> None:
    """List, weigh, list again, and run under a ceiling that only the weight of the lantern exceeds."""
    listed = weighbridge(tmp_path, "list")
    assert re.search(
        r"^lantern +weighbridge-lantern [\d.]+ +1\.0 MiB +2\.0 MiB +- +discovered$", listed.out, re.MULTILINE
    )

    weighed = weighbridge(tmp_path, "weigh", "lantern", "--json")
    assert (weighed.code, weighed.err) == (0, "")
    (lantern,) = json.loads(weighed.out)["plugins"]
    assert (lantern["status"], lantern["modules"], lantern["survivors"]) == ("ok", 1, [])
    assert 10_000 < lantern["traced_bytes"] < 2**20
    assert lantern["reclaimed_share"] > 0.5

    listed = weighbridge(tmp_path, "list", "--json")
    assert [one["weighed_bytes"] > 0 for one in json.loads(listed.out)["plugins"] if one["name"] == "lantern"] == [True]
    (weight,) = (tmp_path / "weights").rglob("*lantern*.json")
    weight.write_text(json.dumps({"traced_bytes": 1, "resident_bytes": 2**40, "import_seconds": 0.1}))
    refused = weighbridge(tmp_path, "run", "lantern", "--once", "--ceiling", "512 GiB")
    assert refused.code == 1
    assert "it needs 1024.0 GiB (as it weighed last time)" in refused.err


def test_the_lantern_runs_and_leaves_nothing(tmp_path: Path) -> None:
    """Its leases are on the account, and its receipt is clean."""
    ran = weighbridge(tmp_path, "run", "lantern", "--once", "--ceiling", "1 GiB")
    assert (ran.code, ran.err) == (0, "")
    assert re.search(r"^lantern [\d.]+ .* 2\.0 MiB +1 capability, 1 log, 1 timer$", ran.out, re.MULTILINE)
    assert re.search(r"^lantern +unloaded .* 0 of [1-9]\d* ", ran.out, re.MULTILINE)


def test_the_lantern_is_fine(tmp_path: Path) -> None:
    """By every criterion."""
    checked = weighbridge(tmp_path, "check", "lantern")
    assert (checked.code, checked.err) == (0, "")
    assert re.fullmatch(r"lantern \(weighbridge-lantern [\d.]+\): fine", checked.lines[0])
    assert [line.split()[:2] for line in checked.lines[2:]] == [
        ["ok", criterion] for criterion in ("load", "peak", "hooks", "clean", "steady")
    ]


@pytest.mark.checkout
def test_a_wheel_of_the_lantern_is_fine(tmp_path: Path) -> None:
    """Built as its author builds it, and checked in front of the one that is installed here."""
    source = tmp_path / "lantern"
    shutil.copytree(LANTERN, source, ignore=shutil.ignore_patterns("__pycache__"))
    pyproject = source / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace('version = "0.1.0"', 'version = "0.1.0.post7"'))
    build = f"import flit_core.buildapi as api; print(api.build_wheel({str(tmp_path)!r}))"
    wheel = subprocess.run(
        [sys.executable, "-c", build], cwd=source, stdout=subprocess.PIPE, encoding="utf-8", check=True
    ).stdout.strip()
    checked = weighbridge(tmp_path, "check", str(tmp_path / wheel), "--json")
    assert (checked.code, checked.err) == (0, "")
    (check,) = json.loads(checked.out)["checks"]
    assert (check["name"], check["version"], check["passed"]) == ("lantern", "0.1.0.post7", True)


def test_the_demonstration_shows_all_of_it(demonstration: subprocess.Popen[str]) -> None:
    """A refusal, accounts and receipts, under its own ceiling."""
    shown = finish(demonstration)
    assert (shown.code, shown.err) == (0, "")
    assert re.match(r"Under a ceiling of 128 MiB, \d+ plugins?: .*lantern", shown.lines[0])
    assert "anvil" not in shown.lines[0]
    assert "  anvil: refused: no room: it needs 512.0 MiB" in shown.out
    assert re.search(r"^lantern +unloaded", shown.out, re.MULTILINE)
    assert re.fullmatch(r"[\d.]+ [KM]iB of Python's memory came back\.", shown.lines[-1])
