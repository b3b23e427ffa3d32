"""Taking modules out of sys.modules, and out of the packages that stay."""

from __future__ import annotations

import importlib
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from weighbridge.reclaim.drop import drop_modules


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(site: Path, **files: str) -> None:
    for name, source in files.items():
        file = site / (name.replace("_of_", "/") + ".py")
        file.parent.mkdir(exist_ok=True)
        file.write_text(source)
    importlib.invalidate_caches()


def test_a_dropped_module_is_imported_anew(site: Path) -> None:
    """A file that was edited after the unload is what the next load gets."""
    write(site, lamp="brightness = 1\n")
    old = importlib.import_module("lamp")
    assert drop_modules(["lamp"]) == 1
    write(site, lamp="brightness = 22\n")
    new = importlib.import_module("lamp")
    assert new is not old
    assert (old.brightness, new.brightness) == (1, 22)


def test_a_file_that_was_added_is_found_afterwards(site: Path) -> None:
    """Finders look at their folders again, also where the clock of the file system is too coarse to tell."""
    write(site, lamp="")
    importlib.import_module("lamp")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("bulb")
    (site / "bulb.py").write_text("")
    drop_modules(["lamp"])
    importlib.import_module("bulb")


def test_the_attribute_of_a_package_that_stays_is_removed(site: Path) -> None:
    """A package refers to its imported submodules; without that reference the module can die at once."""
    write(site, pack_of___init__="", pack_of_lamp="", pack_of_other="")
    package: Any = importlib.import_module("pack")
    other = importlib.import_module("pack.other")
    reference = weakref.ref(importlib.import_module("pack.lamp"))
    assert package.lamp is reference()
    drop_modules(["pack.lamp"])
    assert not hasattr(package, "lamp")
    assert reference() is None
    assert package.other is other


def test_an_attribute_of_that_name_that_is_something_else_stays(site: Path) -> None:
    """A package may give a name of its submodule's to something else, a function perhaps: that is not the module."""
    write(site, pack_of___init__="from .lamp import lamp\n", pack_of_lamp="def lamp(): pass\n")
    package: Any = importlib.import_module("pack")
    function = package.lamp
    drop_modules(["pack.lamp"])
    assert package.lamp is function
    assert "pack.lamp" not in sys.modules


def test_a_package_goes_with_its_submodules_in_any_order(site: Path) -> None:
    """All names are dropped, whether the package or its modules come first."""
    for names in (["pack", "pack.lamp"], ["pack.lamp", "pack"]):
        write(site, pack_of___init__="", pack_of_lamp="")
        importlib.import_module("pack.lamp")
        assert drop_modules(names) == 2
        assert not {"pack", "pack.lamp"} & set(sys.modules)


def test_what_is_not_there_is_not_counted() -> None:
    """Dropping twice, or a name that never was, does nothing."""
    assert drop_modules([]) == 0
    assert drop_modules(["never_was", "never_was.there"]) == 0
    sys.modules["blocked"] = None  # type: ignore[assignment]
    assert drop_modules(["blocked"]) == 0
    assert "blocked" not in sys.modules


def test_a_package_that_forbids_it_stops_nothing() -> None:
    """Whatever stands in for the parent, a lazy module or an object without attributes, is not asked."""

    class Hostile(ModuleType):
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(f"asked for {name}")

        def __delattr__(self, name: str) -> None:
            raise RuntimeError(f"told to forget {name}")

    child = ModuleType("hostile.child")
    hostile = Hostile("hostile")
    object.__getattribute__(hostile, "__dict__")["child"] = child
    sys.modules |= {"hostile": hostile, "hostile.child": child, "slotted": object(), "slotted.child": child}  # type: ignore[dict-item]
    try:
        assert drop_modules(["hostile.child", "slotted.child"]) == 2
        assert "child" not in object.__getattribute__(hostile, "__dict__")
    finally:
        del sys.modules["hostile"], sys.modules["slotted"]
