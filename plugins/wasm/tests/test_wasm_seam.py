"""The private names of wasmtime-py: what is missing is named, and then the public ones serve."""

from __future__ import annotations

import ctypes
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import wasmtime

from weighbridge_wasm import seam
from weighbridge_wasm.engine import Engine
from weighbridge_wasm.public import PublicAccess
from weighbridge_wasm.seam import MISSING, WASMTIME_VERSION, PrivateAccess, Seam, find_missing


class Library:
    """The library, without the names in `hidden`."""

    def __init__(self, *hidden: str) -> None:
        self.hidden = hidden

    def __getitem__(self, name: str) -> Any:
        if name in self.hidden:
            raise AttributeError(name)
        return _dll()[name]


def _dll() -> Any:
    package: Any = wasmtime
    return package._ffi.dll


def package(*, hidden: tuple[str, ...] = (), without: tuple[str, ...] = (), **changed: Any) -> Any:
    """wasmtime-py as another version might have it."""
    original: Any = wasmtime
    ffi = SimpleNamespace(**{**vars(original._ffi), "dll": Library(*hidden), **changed})
    names = {name: value for name, value in vars(wasmtime).items() if name not in without}
    return SimpleNamespace(**{**names, "_ffi": ffi})


def test_nothing_is_missing_in_the_version_that_is_installed() -> None:
    """The version that the plugin asks for has every private name, in the size that is wanted."""
    assert MISSING == ()
    assert find_missing(package(), WASMTIME_VERSION) == ()


@pytest.mark.parametrize("version", ["49.9.9", "51.0.0", "51.0.0rc1", "unknown"])
def test_other_versions_are_not_trusted(version: str) -> None:
    """A version that nobody examined is named, whatever it has."""
    assert find_missing(package(), version) == (f"version 50 of wasmtime, had {version}",)


def test_every_missing_name_is_said_at_once() -> None:
    """All that is missing stands in one list: calls, sizes and methods."""
    found = find_missing(
        package(
            hidden=("wasmtime_trap_new", "wasmtime_func_call_unchecked"),
            without=("InstancePre",),
            wasmtime_global_t=ctypes.c_uint64,
        ),
        WASMTIME_VERSION,
    )
    assert sorted(found) == [
        "wasmtime.InstancePre.ptr",
        "wasmtime_func_call_unchecked in the library",
        "wasmtime_global_t of 24 bytes, had 8",
        "wasmtime_trap_new in the library",
    ]


def test_a_package_without_its_inner_module_is_said_to_lack_it() -> None:
    """Without the library there is nothing to look into, and no error."""
    assert "wasmtime._ffi.dll" in find_missing(ModuleType("wasmtime"), WASMTIME_VERSION)


def test_values_at_another_place_are_found() -> None:
    """A structure whose parts moved is as good as missing."""

    class Moved(ctypes.Structure):
        _fields_ = (("kind", ctypes.c_uint8), ("of", ctypes.c_uint32), ("rest", ctypes.c_uint8 * 24))

    assert "wasmtime_val_t.of at 8" in find_missing(package(wasmtime_val_t=Moved), WASMTIME_VERSION)


def test_the_seam_refuses_to_open_with_something_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One ImportError names everything that is missing."""
    monkeypatch.setattr(seam, "MISSING", ("this", "that"))
    with pytest.raises(ImportError, match="lacks this; that"):
        Seam()


def test_the_public_names_serve_where_something_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine does without the seam, and its instances work."""
    monkeypatch.setattr("weighbridge_wasm.engine.MISSING", ("something",))
    with Engine() as engine:
        assert engine.seam is None
        assert isinstance(engine.access(wasmtime.Store(engine.native)), PublicAccess)


def test_the_private_names_serve_where_all_are_there() -> None:
    """The fast way is the one that is gone."""
    with Engine() as engine:
        assert isinstance(engine.access(wasmtime.Store(engine.native)), PrivateAccess)


def test_what_wasmtime_py_declares_stays_as_it_is() -> None:
    """The seam sets types on functions of its own: wasmtime-py's have theirs."""
    original: Any = wasmtime
    before = original._ffi.dll.wasmtime_context_set_fuel.argtypes
    Seam()
    assert original._ffi.dll.wasmtime_context_set_fuel.argtypes is before
    store = wasmtime.Store()
    with pytest.raises(wasmtime.WasmtimeError, match="fuel is not configured"):
        store.set_fuel(123)
