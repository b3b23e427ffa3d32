"""Whose modules a load brought in is told by the metadata of distributions."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from weighbridge.isolation import IsolatedHost
from weighbridge.testing import TemporaryPlugin

GOOD = "class Plugin:\n    def __init__(self, context):\n        pass\n"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    """Where temporary plugins lie; what is imported from there is forgotten."""
    before = set(sys.modules)
    yield tmp_path / "temporary-plugins"
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def add(site: Path, file: str, text: str = "") -> str:
    """A file beside the plugins; its line for a RECORD."""
    path = site / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return f"\n{file},,"


def append(site: Path, pattern: str, text: str) -> None:
    [file] = site.glob(pattern)
    file.write_text(file.read_text() + text)


def test_every_package_of_its_distribution_is_the_plugins_own(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, site: Path
) -> None:
    """It goes without being asked for as a dependency; a package that no RECORD names is one."""
    package = temporary_plugin("lamp", "import lamp_inner, lamp_stranger\n" + GOOD)
    append(site, "weighbridge_lamp-*/RECORD", add(site, "lamp_inner/__init__.py", "import lamp_inner.deep"))
    append(site, "weighbridge_lamp-*/RECORD", add(site, "lamp_inner/deep.py"))
    add(site, "lamp_stranger.py")
    weighbridge_host.load("lamp")
    receipt = weighbridge_host.unload("lamp")
    assert (receipt.state, receipt.modules_dropped) == ("unloaded", 3)
    assert receipt.modules_kept == ("lamp_stranger (dependency: dependencies were not asked to go)",)
    assert not {package, "lamp_inner", "lamp_inner.deep"} & set(sys.modules)


def test_a_neighbour_of_the_same_distribution_keeps_what_is_its_own(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, site: Path
) -> None:
    """Two plugins in two packages of one distribution do not hold each other's modules."""
    first = temporary_plugin("lamp", GOOD)
    append(site, "weighbridge_lamp-*/RECORD", add(site, "lamp_second/__init__.py", GOOD))
    append(site, "weighbridge_lamp-*/entry_points.txt", "torch = lamp_second:Plugin\n")
    weighbridge_host.allow("lamp", "torch")
    weighbridge_host.load("lamp")
    weighbridge_host.load("torch")
    receipt = weighbridge_host.unload("lamp")
    assert (receipt.state, receipt.modules_kept, first in sys.modules) == ("unloaded", (), False)
    assert "lamp_second" in sys.modules
    assert weighbridge_host.unload("torch").modules_dropped == 1


def test_packages_of_a_required_distribution_stay_together(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them is held by the application, so the other stays, too; a distribution that nobody holds goes."""
    temporary_plugin("lamp", "import lamp_lib, _lamp_lib, lamp_other\n" + GOOD)
    append(site, "weighbridge_lamp-*/METADATA", "Requires-Dist: lamp-lib>=1\nRequires-Dist: lamp-other\n")
    both = add(site, "lamp_lib.py") + add(site, "_lamp_lib.py")
    add(site, "lamp_lib-1.0.dist-info/RECORD", both)
    add(site, "lamp_other-1.0.dist-info/RECORD", add(site, "lamp_other.py"))
    weighbridge_host.load("lamp")
    monkeypatch.setattr(sys.modules[__name__], "application_needs", sys.modules["lamp_lib"], raising=False)
    receipt = weighbridge_host.unload("lamp", dependencies=True)
    assert receipt.modules_kept == tuple(
        f"{name} (outside: {__name__} refers to it)" for name in ("_lamp_lib", "lamp_lib")
    )
    assert "lamp_other" not in sys.modules


def test_a_dependency_that_c_code_may_call_stays(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, site: Path
) -> None:
    """It is used again by the next load, and it is the one thing that outlived the plugin."""
    temporary_plugin("lamp", "import lamp_lib\n" + GOOD)
    add(site, "lamp_lib.py", "import ctypes\nanswer = ctypes.CFUNCTYPE(None)(lambda: None)\n")
    weighbridge_host.load("lamp")
    library = sys.modules["lamp_lib"]
    receipt = weighbridge_host.unload("lamp", dependencies=True)
    assert receipt.modules_kept == ("lamp_lib (callbacks: C code may have the address of lamp_lib.answer)",)
    assert [(one.kind, one.name) for one in receipt.survivors] == [("module", "lamp_lib")]
    weighbridge_host.load("lamp")
    assert sys.modules["lamp_lib"] is library
    library.answer()
    assert weighbridge_host.unload("lamp").survivors == ()


def test_a_second_load_is_not_charged_for_the_folders_that_python_lists(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin, site: Path
) -> None:
    """The import system forgets them at an unload, and lists them again: 3000 names are not the plugin's."""
    temporary_plugin("lamp", GOOD)
    for number in range(3000):
        (site / f"one_of_many_files_that_lie_beside_the_plugin_{number}.txt").touch()
    weighed = []
    for _ in range(3):
        weighed.append(weighbridge_host.load("lamp").traced_bytes or 0)
        weighbridge_host.unload("lamp")
    assert 0 < max(weighed) < 100_000
