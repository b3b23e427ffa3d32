"""Plugins with compiled modules: what cannot go is used again, charged once, and met by no other version."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import sys
import weakref
from collections.abc import Callable
from importlib.machinery import ExtensionFileLoader
from pathlib import Path

import psutil
import pytest
from weighbridge_hookspecs import PluginIncompatible

from weighbridge.isolation import IsolatedHost
from weighbridge.testing import TemporaryPlugin

SINGLE = "psutil._psutil_linux" if sys.platform == "linux" else "psutil._psutil_osx"
GOOD = "class Plugin:\n    def __init__(self, context):\n        pass\n"
Box = Callable[[str, str], str]


@pytest.fixture
def box(temporary_plugin: TemporaryPlugin, tmp_path: Path) -> Box:
    """Install a plugin `boxed` of some version, with a compiled module in its package; that module's name."""
    assert psutil is not None

    def install(library: str, version: str) -> str:
        spec = importlib.util.find_spec(library)
        if spec is None or not isinstance(spec.loader, ExtensionFileLoader):
            pytest.skip(f"{library} is no file of its own here")
        file = library.rpartition(".")[2]
        package = temporary_plugin("boxed", f"from . import {file}\nheavy = 'x' * 300_000\n" + GOOD, version=version)
        target = tmp_path / "temporary-plugins" / package / Path(str(spec.origin)).name
        target.unlink(missing_ok=True)  # as installers do it: writing into a library that is mapped ends the process
        shutil.copy(str(spec.origin), target)
        return f"{package}.{file}"

    return install


def test_a_compiled_module_with_a_state_goes_with_its_plugin(weighbridge_host: IsolatedHost, box: Box) -> None:
    """Nothing of it survives, and the next load brings a new one."""
    name = box("_csv", "1.0")
    weighbridge_host.load("boxed")
    first = weakref.ref(sys.modules[name])
    receipt = weighbridge_host.unload("boxed")
    assert (receipt.state, receipt.modules_kept, name in sys.modules) == ("unloaded", (), False)
    assert first() is None
    weighbridge_host.load("boxed")
    assert list(sys.modules[name].reader(["a,b"])) == [["a", "b"]]
    assert weighbridge_host.unload("boxed").state == "unloaded"


@pytest.mark.skipif(sys.platform != "linux", reason="what is mapped is read from /proc")
def test_a_library_that_stays_mapped_is_in_the_receipt(weighbridge_host: IsolatedHost, box: Box) -> None:
    """Also one that ctypes opened, for neither it nor the import system ever closes one; each load counts it anew."""
    name = box("_csv", "1.0")
    package = name.rpartition(".")[0]
    for _ in range(2):
        weighbridge_host.load("boxed")
        folder = Path(str(sys.modules[package].__file__)).parent
        other = folder / "libother.so"
        if not other.exists():
            shutil.copy(str(sys.modules[name].__file__), other)
        ctypes.CDLL(str(other))
        receipt = weighbridge_host.unload("boxed")
        assert receipt.state == "unloaded"
        assert [Path(library.path).name for library in receipt.libraries_kept] == [
            Path(str(importlib.util.find_spec("_csv").origin)).name,  # type: ignore[union-attr]
            "libother.so",
        ]
        assert all(library.resident_bytes > 0 for library in receipt.libraries_kept)


def test_a_library_that_another_plugin_uses_is_not_left_behind(
    weighbridge_host: IsolatedHost, box: Box, temporary_plugin: TemporaryPlugin
) -> None:
    """It is in the receipt of the last one."""
    package = box("_csv", "1.0").rpartition(".")[0]
    temporary_plugin("guest", f"import {package}\n" + GOOD)
    weighbridge_host.load("boxed")
    weighbridge_host.load("guest")
    assert weighbridge_host.unload("boxed").libraries_kept == ()
    kept = weighbridge_host.unload("guest").libraries_kept
    assert len(kept) == (sys.platform == "linux")


def test_what_cannot_go_is_used_again(weighbridge_host: IsolatedHost, box: Box) -> None:
    """There is never a second copy, its bytes stay on the books once, and a second load adds nothing to them."""
    name = box(SINGLE, "1.0")
    first = weighbridge_host.load("boxed")
    module, package = sys.modules[name], sys.modules[name.rpartition(".")[0]]
    receipt = weighbridge_host.unload("boxed")
    assert (receipt.state, receipt.modules_dropped) == ("stranded", 0)
    assert {one.name for one in receipt.survivors} == {name, package.__name__}
    left = weighbridge_host.accounts()
    assert left.stranded_bytes >= 300_000
    assert left.shared_bytes == 0
    second = weighbridge_host.load("boxed")
    assert sys.modules[name] is module
    assert sys.modules[package.__name__] is package
    assert first.traced_bytes is not None
    assert second.traced_bytes is not None
    assert second.traced_bytes < 100_000 < 300_000 <= first.traced_bytes
    statement = weighbridge_host.accounts()
    assert (statement.stranded_bytes, statement.shared_bytes) == (left.stranded_bytes, 0)
    weighbridge_host.unload("boxed")
    assert weighbridge_host.accounts().stranded_bytes < left.stranded_bytes + 100_000


def test_another_version_of_what_cannot_go_is_refused(weighbridge_host: IsolatedHost, box: Box) -> None:
    """Its new Python code would meet the old compiled code; the version that is left can be loaded still."""
    name = box(SINGLE, "1.0")
    weighbridge_host.load("boxed")
    weighbridge_host.unload("boxed")
    module = sys.modules[name]
    box(SINGLE, "2.0")
    weighbridge_host.discover()
    for _ in range(2):
        with pytest.raises(PluginIncompatible) as caught:
            weighbridge_host.load("boxed")
    assert "version 1.0 cannot leave this process whole" in str(caught.value)
    assert name.rpartition(".")[0] in str(caught.value)
    assert caught.value.advice == "Restart the process to load version 2.0"
    assert sys.modules[name] is module
    assert {one.name: one.state for one in weighbridge_host.plugins()} == {"boxed": "stranded"}
    box(SINGLE, "1.0")
    weighbridge_host.discover()
    weighbridge_host.load("boxed")
    assert sys.modules[name] is module


def test_a_compiled_module_that_has_gone_bars_another_version(weighbridge_host: IsolatedHost, box: Box) -> None:
    """Its library is never closed, and the system gives it out again although another file lies there by now."""
    name = box("_csv", "1.0")
    weighbridge_host.load("boxed")
    assert weighbridge_host.unload("boxed").state == "unloaded"
    box("_csv", "2.0")
    weighbridge_host.discover()
    with pytest.raises(PluginIncompatible, match=f"because of {name}, and version 2.0"):
        weighbridge_host.load("boxed")


def test_another_version_of_a_plugin_that_has_gone_is_welcome(
    weighbridge_host: IsolatedHost, temporary_plugin: TemporaryPlugin
) -> None:
    """Pure Python leaves nothing behind that a new version could meet."""
    temporary_plugin("lamp", GOOD)
    weighbridge_host.load("lamp")
    weighbridge_host.unload("lamp")
    temporary_plugin("lamp", GOOD, version="2.0")
    weighbridge_host.discover()
    assert weighbridge_host.load("lamp").version == "2.0"


def test_a_failed_load_that_leaves_something_behind_bars_another_version(
    weighbridge_host: IsolatedHost, box: Box, tmp_path: Path
) -> None:
    """A module that cannot go stays, whether or not the plugin that brought it ever worked."""
    name = box(SINGLE, "1.0")
    source = tmp_path / "temporary-plugins" / name.partition(".")[0] / "__init__.py"
    source.write_text(source.read_text().replace("pass", "raise RuntimeError('no')"))
    with pytest.raises(Exception, match=f"the compiled module '{name}' stays"):
        weighbridge_host.load("boxed")
    box(SINGLE, "2.0")
    weighbridge_host.discover()
    with pytest.raises(PluginIncompatible, match=r"version 1\.0 cannot leave this process whole"):
        weighbridge_host.load("boxed")
