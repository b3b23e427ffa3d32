"""States that the store does not take when the plugin is unloaded: these tests need ``weighbridge[testing]``."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

import pytest
import wasmtime
from weighbridge_hookspecs import StorageFailed

isolation = pytest.importorskip(
    "weighbridge.isolation", reason="pip install 'weighbridge[testing]' to test the plugin in a host"
)
stores = pytest.importorskip("weighbridge.leases.store")

COUNTER: Final = bytes(
    wasmtime.wat2wasm(
        """
        (module
          (memory (export "memory") 1)
          (func (export "count") (result i32)
            (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))
            (i32.load (i32.const 0))))
        """
    )
)


def full(*_: object) -> None:
    """A store on a disk without room."""
    raise StorageFailed("no room on the disk", advice="Make room")


def test_a_state_that_is_lost_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The receipt says which module's it was and why, and so does the log: a host that is closed shows no receipt."""
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
    with isolation.IsolatedHost(meter="process", store=tmp_path / "store.sqlite3") as host:
        host.allow("wasm")
        host.load("wasm")
        wasm: Any = host.capabilities["wasm"]
        wasm.register(COUNTER, {"keep_state": True}, name="tally")
        wasm.call("tally", "count")
        monkeypatch.setattr(stores.NamespaceStore, "put", full)
        with caplog.at_level(logging.ERROR):
            receipt = host.unload("wasm")
    [failure] = receipt.failures
    assert "'tally': no room on the disk" in failure
    assert [record.getMessage() for record in caplog.records] == [
        "what the module 'tally' knows is lost since it was last suspended: no room on the disk. Make room"
    ]
