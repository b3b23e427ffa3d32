"""Checking a wheel: a temporary environment in front of this one, and what pip has to say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import pytest
from weighbridge_hookspecs import ConfigurationError

from weighbridge.cli.app import run
from weighbridge.fabricate import write_distribution
from weighbridge.weighing.environment import Environment

MANIFEST = '[plugin]\nsummary = "A beacon"\n[memory]\nload = "1 MiB"\npeak = "2 MiB"\n'
SOUND = "import buoy\nclass Plugin:\n    def __init__(self, context):\n        self.light = buoy.LIGHT\n"


def build(
    folder: Path, name: str, source: str = "", *, requires: Sequence[str] = (), plugin: bool = True, number: str = "1.0"
) -> Path:
    """Make a wheel by hand: https://packaging.python.org/en/latest/specifications/binary-distribution-format/."""
    package = name.replace("-", "_")
    info = f"{package}-{number}.dist-info"
    short = name.removeprefix("weighbridge-")
    files = {
        f"{package}/__init__.py": source,
        f"{package}/weighbridge.toml": MANIFEST,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n"
        + "".join(f"Requires-Dist: {one}\n" for one in requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if plugin:
        files[f"{info}/entry_points.txt"] = (
            f"[weighbridge]\n{short} = {package}:Plugin\n[weighbridge.manifest]\n{short} = {package}:weighbridge.toml\n"
        )
    files[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    wheel = folder / f"{package}-{number}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    return wheel


@pytest.fixture(autouse=True)
def _like_a_fresh_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """One for all wheels that cannot be installed."""
    return Environment.create(tmp_path_factory.mktemp("environment") / "venv")


@pytest.fixture(scope="module", autouse=True)
def without_pip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """An environment made where there is no pip: that takes a while, so it is begun while the others are tested."""
    code = """
import sys
from pathlib import Path
from weighbridge.weighing import environment
environment.find_spec = lambda name: None
print((environment.Environment.create(Path(sys.argv[1])).site / "pip").is_dir())
"""
    command = [sys.executable, "-c", code, str(tmp_path_factory.mktemp("without-pip") / "venv")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
        yield process


# --- what can be installed --------------------------------------------------------------------------------------------


def test_the_plugin_under_check_comes_before_a_version_of_it_that_is_installed_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even before the very same version; what it depends on is taken from here."""
    site = tmp_path / "site"
    write_distribution(site, "beacon", "raise RuntimeError('the one that is installed here')", manifest=MANIFEST)
    write_distribution(site, "buoy", "LIGHT = 'white'\n", distribution="buoy", version="2.0")
    monkeypatch.syspath_prepend(str(site))
    wheel = build(tmp_path, "weighbridge-beacon", SOUND, requires=["buoy>=2", "weighbridge-hookspecs"])
    assert run(["check", str(wheel), "--rounds", "3", "--json"]) == 0
    (checked,) = json.loads(capsys.readouterr().out)["checks"]
    assert (checked["name"], checked["distribution"], checked["passed"]) == ("beacon", "weighbridge-beacon", True)
    assert [path for path in tmp_path.iterdir() if path.name.startswith("weighbridge-")] == []


def test_the_hookspecs_are_those_of_the_environment_we_are_in(environment: Environment) -> None:
    """Whether they were installed there or are edited there: the same file."""
    code = "import weighbridge_hookspecs, weighbridge.host, sys; print(weighbridge_hookspecs.__file__, sys.prefix)"
    done = subprocess.run(
        [environment.python, "-c", code], env=_without_path(), stdout=subprocess.PIPE, encoding="utf-8", check=True
    )
    import weighbridge_hookspecs

    assert done.stdout.split() == [weighbridge_hookspecs.__file__, str(environment.folder)]


def _without_path() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def test_a_wheel_without_a_plugin_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The group in which there is none is named."""
    wheel = build(tmp_path, "weighbridge-bare", plugin=False)
    assert run(["check", str(wheel)]) == 2
    assert capsys.readouterr().err == f"weighbridge: {wheel.name} has no entry point in the group 'weighbridge'\n"


# --- what cannot ------------------------------------------------------------------------------------------------------


def test_a_wheel_that_is_no_zip_is_refused_in_pips_words(environment: Environment, tmp_path: Path) -> None:
    """A file name alone makes no wheel."""
    wheel = tmp_path / "weighbridge_torn-1.0-py3-none-any.whl"
    wheel.write_text("not a zip")
    with pytest.raises(
        ConfigurationError, match=r"^weighbridge_torn-1\.0-py3-none-any\.whl cannot be installed: .*torn"
    ):
        environment.install(wheel)


def test_a_dependency_that_nobody_has_is_named(environment: Environment, tmp_path: Path) -> None:
    """By pip, whose last line it is."""
    wheel = build(tmp_path, "weighbridge-needy", requires=["nobody-has-this>=3"])
    with pytest.raises(ConfigurationError, match=r"No matching distribution found for nobody-has-this>=3$"):
        environment.install(wheel)


def test_a_plugin_for_a_contract_that_is_not_ours_cannot_be_checked_here(
    environment: Environment, tmp_path: Path
) -> None:
    """Another version of the hookspecs is never fetched: it would not be the one that this host speaks."""
    wheel = build(tmp_path, "weighbridge-ahead", requires=["weighbridge-hookspecs>=9"])
    with pytest.raises(ConfigurationError) as caught:
        environment.install(wheel)
    assert "depends on weighbridge-hookspecs>=9" in str(caught.value)
    assert f"weighbridge-hookspecs=={version('weighbridge-hookspecs')}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wheel_that_is_not_there_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """And the advice says how to build one."""
    assert run(["check", "dist/lantern.whl"]) == 2
    assert (
        capsys.readouterr().err
        == "weighbridge: there is no wheel dist/lantern.whl. Build it: python -m build --wheel\n"
    )


def test_a_file_that_is_no_wheel_is_not_taken_for_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Such as a source distribution."""
    archive = tmp_path / "lantern-1.0.tar.gz"
    archive.touch()
    assert run(["check", str(archive)]) == 2
    assert f"{archive} is no wheel. Build one" in capsys.readouterr().err


# --- where there is no pip --------------------------------------------------------------------------------------------


def test_where_there_is_no_pip_python_brings_its_own(without_pip: subprocess.Popen[str]) -> None:
    """As in an environment that uv has made."""
    out, _ = without_pip.communicate()
    assert (without_pip.returncode, out) == (0, "True\n")


def test_where_python_has_none_either_the_advice_is_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on systems that ship the standard library in parts."""

    def create(self: object, folder: Path) -> None:
        raise subprocess.CalledProcessError(1, [sys.executable, "-m", "ensurepip"])

    monkeypatch.setattr("venv.EnvBuilder.create", create)
    with pytest.raises(ConfigurationError, match="Install pip beside weighbridge"):
        Environment.create(tmp_path / "venv")
