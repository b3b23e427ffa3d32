"""Shared libraries that are mapped: which of them come from where a module does."""

from __future__ import annotations

import ctypes
import shutil
import sys
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from weighbridge.accounting.libraries import homes, mapped

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is mapped is read from /proc")


def module(name: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    made = ModuleType(name)
    made.__file__ = str(file)
    monkeypatch.setitem(sys.modules, name, made)
    return name


def test_the_home_of_a_package_is_its_folder_and_the_one_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module without a package is at home in its own file, and one without a file nowhere."""
    module("harbour", tmp_path / "harbour" / "__init__.py", monkeypatch)
    module("crane", tmp_path / "crane.py", monkeypatch)
    monkeypatch.setitem(sys.modules, "fog", ModuleType("fog"))
    assert homes(["harbour.quay", "harbour", "crane", "fog", "gone"]) == {
        str(tmp_path / "harbour"),
        str(tmp_path / "harbour.libs"),
        str(tmp_path / "crane.py"),
    }


def test_a_library_is_found_where_it_was_mapped_from(tmp_path: Path) -> None:
    """Also under a version number, and not when only the beginning of the folder's name is the same."""
    source = next(Path(psutil.__file__).parent.glob("_psutil_linux*.so"))
    folder = tmp_path / "harbour"
    folder.mkdir()
    (tmp_path / "harbourage").mkdir()
    for target in (folder / "libcrane.so.7", folder / "libcrane.text", tmp_path / "harbourage" / "libother.so"):
        shutil.copy(source, target)
        ctypes.CDLL(str(target))
    (library,) = mapped({str(folder)})
    assert Path(library.path) == folder / "libcrane.so.7"
    assert 0 < library.resident_bytes <= (folder / "libcrane.so.7").stat().st_size + (1 << 20)
    assert mapped(()) == mapped({str(tmp_path / "nowhere")}) == ()


def test_nothing_is_known_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without /proc nothing is named, and nothing is raised."""
    monkeypatch.setattr("weighbridge.accounting.libraries._MAPS", str(tmp_path / "maps"))
    assert mapped({str(Path(psutil.__file__).parent)}) == ()
