"""What a distribution has and requires, by its metadata folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from weighbridge.discovery.contents import Shelf, modules, requirements


def install(site: Path, name: str, *, version: str = "1.0", **files: str) -> Path:
    """A metadata folder with the given texts by file name, an underscore for the dot."""
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir(parents=True)
    for file, text in files.items():
        (folder / file.replace("_txt", ".txt")).write_text(text)
    return folder


def record(*files: str) -> str:
    return "\n".join(f"{file},sha256=abc,12" for file in files)


def metadata(*requires: str) -> str:
    lines = "".join(f"Requires-Dist: {one}\n" for one in requires)
    return f"Metadata-Version: 2.1\n{lines}\nRequires-Dist: a-description\n"


def test_modules_are_read_from_the_record(tmp_path: Path) -> None:
    """Python and compiled ones; no scripts, no data, nothing outside, and no compiled Python."""
    folder = install(
        tmp_path,
        "lamp",
        RECORD=record(
            "lamp/__init__.py", "lamp/bulb.cpython-311-x86_64-linux-gnu.so", "lamp/glass.pyd", "lamp/shade.abi3.so",
            "lamp/py.typed", "lamp/__pycache__/bulb.cpython-311.pyc", "single.py", "../../../bin/lamp.py",
            "lamp-1.0.dist-info/RECORD", "lamp-1.0.data/scripts/run.py", "/absolute.py", "lamp\\windows.py",
        ) + '\n"lamp/a,b.py",,\n',
    )  # fmt: skip
    assert modules(str(folder)) == ["lamp.__init__", "lamp.bulb", "lamp.glass", "lamp.shade", "single", "lamp.windows"]


def test_without_a_record_the_top_level_names_tell(tmp_path: Path) -> None:
    """As setuptools writes them; where there is neither, nothing is known."""
    assert modules(str(install(tmp_path, "old", top_level_txt="old\n_old\n\n"))) == ["old", "_old"]
    assert modules(str(install(tmp_path, "bare"))) == []
    assert modules(str(install(tmp_path, "editable", RECORD=record("editable.pth")))) == []
    assert modules(str(tmp_path / "nowhere")) == []


def test_what_is_required_is_read_without_what_only_an_extra_asks_for(tmp_path: Path) -> None:
    """However the version is written; the description is not searched."""
    requires = ("attrs", "Pluggy>=1.5", "rich (>=13)", "tomli; python_version < '3.11'", "x[y]~=1", "z @ file:///z",
                "pytest; extra == 'tests'")  # fmt: skip
    folder = install(tmp_path, "lamp", METADATA=metadata(*requires))
    assert requirements(str(folder)) == ["attrs", "Pluggy", "rich", "tomli", "x", "z"]


def test_every_package_belongs_to_the_distribution_that_has_it(tmp_path: Path) -> None:
    """Several packages of one distribution, and its own part of a namespace package."""
    install(tmp_path, "Space.Lamp", METADATA=metadata("lib"), RECORD=record("space/lamp/__init__.py", "_lamp.py"))
    install(tmp_path, "lib", RECORD=record("lib/__init__.py", "lib/deep/__init__.py", "_lib/__init__.py"))
    claims = Shelf([str(tmp_path)]).claims("space-lamp", "1.0", ["lib.deep"])
    assert claims == {"space.lamp": "space_lamp", "_lamp": "space_lamp", "lib": "lib", "_lib": "lib"}


def test_of_a_package_that_two_have_the_second_has_what_lies_deeper(tmp_path: Path) -> None:
    """As in namespace packages of the old kind, where each brings the same ``__init__.py``."""
    install(tmp_path, "one", METADATA=metadata("two"), RECORD=record("space/__init__.py", "space/one.py"))
    install(tmp_path, "two", RECORD=record("space/__init__.py", "space/two.py"))
    claims = Shelf([str(tmp_path)]).claims("one", "1.0", ["nothing"])
    assert claims == {"space": "one", "space.two": "two"}


def test_no_more_is_read_than_is_asked_for(tmp_path: Path) -> None:
    """Requirements of requirements are followed until every module is found, in rings too."""
    install(tmp_path, "a", METADATA=metadata("b"), RECORD=record("a.py"))
    install(tmp_path, "b", METADATA=metadata("c", "a"), RECORD=record("b.py"))
    install(tmp_path, "c", METADATA=metadata("missing"), RECORD=record("c.py"))
    shelf = Shelf([str(tmp_path)])
    assert list(shelf.claims("a", "1.0", [])) == ["a"]
    assert list(shelf.claims("a", "1.0", ["b"])) == ["a", "b"]
    assert list(shelf.claims("a", "1.0", ["nothing"])) == ["a", "b", "c"]
    assert shelf.claims("missing", "1.0", ["nothing"]) == {}


def test_the_folder_is_that_of_the_version_or_the_first(tmp_path: Path) -> None:
    """Two may lie beside each other after a broken installation, or on two entries of the path."""
    old = install(tmp_path / "first", "lamp", version="1.0")
    new = install(tmp_path / "second", "lamp", version="2.0")
    shelf = Shelf([str(tmp_path / "first"), str(tmp_path / "nowhere"), str(tmp_path / "second")])
    assert shelf.folder("Lamp") == str(old)
    assert shelf.folder("lamp", "2.0") == str(new)
    assert shelf.folder("torch") is None


def test_real_metadata_is_read() -> None:
    """pytest has three packages, and requires pluggy."""
    claims = Shelf(sys.path).claims("pytest", pytest.__version__, ["pluggy._hooks"])
    assert (claims["_pytest"], claims["pytest"], claims["pluggy"]) == ("pytest", "pytest", "pluggy")


def test_reading_imports_no_library_for_it() -> None:
    """A cold import of importlib.metadata would cost more than the reading."""
    code = (
        "import sys; from weighbridge.discovery.contents import Shelf; Shelf(sys.path).claims('pytest', '', ['x'])\n"
        "assert not {'importlib.metadata', 'importlib_metadata', 'email', 'csv'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
