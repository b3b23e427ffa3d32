"""The lantern in a host: these tests need ``weighbridge[testing]``, and are skipped where it is not installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("weighbridge.testing", reason="pip install 'weighbridge[testing]' to test the lantern in a host")

if TYPE_CHECKING:
    from weighbridge.isolation import IsolatedHost
    from weighbridge.testing import AssertUnloadsClean


@pytest.fixture(autouse=True)
def _like_a_fresh_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing was weighed yet, and nothing imported: what is imported already, a load does not bring in."""
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path))
    sys.modules.pop("weighbridge_lantern", None)


def test_it_keeps_to_its_manifest(weighbridge_host: IsolatedHost) -> None:
    """The hooks that it implements, the capability that it provides, and the memory that it declares."""
    weighbridge_host.allow("lantern")
    account = weighbridge_host.load("lantern")
    manifest = weighbridge_host.candidate("lantern").manifest
    assert manifest is not None
    assert manifest.load_bytes is not None
    assert set(manifest.hooks) == set(weighbridge_host.implemented("lantern"))
    assert set(manifest.provides) == {one.name for one in weighbridge_host.capabilities.describe()}
    assert account.held_bytes < manifest.load_bytes


def test_others_find_its_history(weighbridge_host: IsolatedHost) -> None:
    """For as long as it is loaded."""
    weighbridge_host.allow("lantern")
    weighbridge_host.load("lantern")
    assert len(weighbridge_host.capabilities["machine-load"].readings()) >= 1
    weighbridge_host.unload("lantern")
    assert "machine-load" not in weighbridge_host.capabilities


def test_it_leaves_nothing_behind(assert_unloads_clean: AssertUnloadsClean) -> None:
    """Loaded and unloaded again and again: no object, no thread, no open file; and its module was really dropped."""
    receipt = assert_unloads_clean("lantern")
    assert receipt.modules_dropped == 1
