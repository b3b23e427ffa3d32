"""Compiled modules: only one with a state of its own for each module can go and come back."""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import subprocess
import sys
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from weighbridge.accounting import compiled
from weighbridge.accounting.compiled import obstacle

SINGLE = "psutil._psutil_linux" if sys.platform == "linux" else "psutil._psutil_osx"
RELOADED = """
import gc, importlib, sys, weakref
from weighbridge.accounting.compiled import obstacle
sys.path.insert(0, sys.argv[1])
import boxed._csv
assert obstacle(boxed._csv) is None, obstacle(boxed._csv)
references = [weakref.ref(boxed._csv), weakref.ref(boxed._csv.Dialect), weakref.ref(boxed._csv.Error)]
del sys.modules["boxed._csv"], boxed._csv
gc.collect()
assert [reference() for reference in references] == [None, None, None]
again = importlib.import_module("boxed._csv")
assert list(again.reader(["a,b"])) == [["a", "b"]]
"""


def library(name: str) -> Path:
    """The file of a compiled module of the standard library; some builds of Python link it into the interpreter."""
    spec = importlib.util.find_spec(name)
    if spec is None or not isinstance(spec.loader, ExtensionFileLoader):
        pytest.skip(f"{name} is no file of its own here")
    return Path(str(spec.origin))


def test_single_phase_initialisation_is_an_obstacle() -> None:
    """Python keeps what such a module has made for as long as the process lives."""
    assert psutil is not None
    assert obstacle(sys.modules[SINGLE]) == "has single-phase initialisation"


def test_a_module_without_a_state_is_an_obstacle() -> None:
    """It promises multi-phase initialisation, and nothing shows that it keeps no static objects, as numpy does."""
    library("_heapq")
    assert obstacle(importlib.import_module("_heapq")) == (
        "keeps what it makes at its initialisation, for it has no state of its own for each module"
    )


def test_a_module_with_a_state_can_go_and_come_back(tmp_path: Path) -> None:
    """Really dropped, it dies with its classes, and a second import gives a module that works."""
    (tmp_path / "boxed").mkdir()
    (tmp_path / "boxed" / "__init__.py").touch()
    shutil.copy(library("_csv"), tmp_path / "boxed")
    done = subprocess.run(
        [sys.executable, "-c", RELOADED, tmp_path], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_module_that_runs_no_code_at_its_initialisation_is_no_obstacle() -> None:
    """It is a list of functions, and there is nothing that it could keep."""
    library("_statistics")
    assert obstacle(importlib.import_module("_statistics")) is None


@pytest.mark.parametrize("name", ["__test__", "__pyx_capi__"])
def test_cython_is_an_obstacle(name: str) -> None:
    """Whatever such a module says about its state, its own tables are static."""
    module = ModuleType("fast")
    module.__spec__ = ModuleSpec("fast", ExtensionFileLoader("fast", "/nowhere/fast.so"))
    vars(module)[name] = {}
    assert obstacle(module) == "was made by Cython, which cannot be initialised twice"


def test_what_is_not_compiled_is_no_obstacle() -> None:
    """Python modules, built-in ones, and what is no module at all."""
    assert [obstacle(one) for one in (pytest, sys, None, object())] == [None] * 4


def test_a_build_with_another_layout_is_an_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    """If built-in modules do not look as they should, nothing is believed of any other."""
    library("_csv")
    module = importlib.import_module("_csv")
    assert obstacle(module) is None
    compiled._is_layout_known.cache_clear()
    monkeypatch.setattr(compiled, "_KNOWN", {"sys": (True, True)})
    try:
        assert obstacle(module) == "does not show on this Python how it is initialised"
    finally:
        compiled._is_layout_known.cache_clear()


def test_looking_at_modules_imports_no_ctypes_before_one_is_compiled() -> None:
    """A host of pure-Python plugins does not pay for it."""
    code = "import sys, weighbridge.accounting.compiled as c; c.obstacle(sys); assert 'ctypes' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
