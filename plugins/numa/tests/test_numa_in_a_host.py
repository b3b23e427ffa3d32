"""The plugin in a host: these tests need ``weighbridge[testing]``, and are skipped where it is not installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("weighbridge.testing", reason="pip install 'weighbridge[testing]' to test the plugin in a host")

if TYPE_CHECKING:
    from collections.abc import Callable

    # The fixtures' types are the host's; this plugin does not import it.
    IsolatedHost = Any
    AssertUnloadsClean = Callable[..., Any]

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _like_a_fresh_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing was weighed yet, and nothing imported: what is imported already, a load does not bring in."""
    monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "weighbridge_numa"]:
        monkeypatch.delitem(sys.modules, name)


OTHER = """
from weighbridge_hookspecs import hookimpl

class Other:
    def __init__(self, context):
        self.context = context

    @hookimpl
    def weighbridge_capabilities(self, registry):
        registry.register("taker", self.take, evidence="a test")

    def take(self, nbytes):
        buffer = self.context.capabilities["numa"].allocate(nbytes, charge=self.context.charge)
        view = buffer.view()
        buffer.release()
        return view
"""


def test_it_keeps_to_its_manifest(weighbridge_host: IsolatedHost) -> None:
    """The hooks that it implements, the capability that it provides, and the memory that it declares."""
    weighbridge_host.allow("numa")
    account = weighbridge_host.load("numa")
    manifest = weighbridge_host.candidate("numa").manifest
    assert manifest is not None
    assert set(manifest.hooks) == set(weighbridge_host.implemented("numa"))
    assert set(manifest.provides) == {one.name for one in weighbridge_host.capabilities.describe()}
    assert 0 < account.held_bytes < manifest.load_bytes


def test_its_load_is_small_and_starts_no_thread(weighbridge_host: IsolatedHost) -> None:
    """Far less than half of the four MiB, and none of the one thread, that it and the balloon may take together."""
    weighbridge_host.allow("numa")
    assert weighbridge_host.load("numa").held_bytes < MIB
    assert set(weighbridge_host.account("numa").leases) <= {"capability", "log"}


def test_a_buffer_is_on_the_account_until_it_is_gone(weighbridge_host: IsolatedHost) -> None:
    """From the hook, on that of this plugin."""
    weighbridge_host.allow("numa")
    before = weighbridge_host.load("numa").charges
    buffer = weighbridge_host.hook.weighbridge_allocate_buffer(size=3 * MIB, node=0)
    assert weighbridge_host.account("numa").charges == {**before, "NUMA buffers": 3 * MIB}
    view = buffer.view()
    buffer.release()
    assert weighbridge_host.account("numa").charges == {**before, "NUMA buffers": 3 * MIB}
    del view
    assert weighbridge_host.account("numa").charges == before


def test_another_plugins_buffer_is_on_its_own_account(
    weighbridge_host: IsolatedHost, temporary_plugin: Callable[..., Any]
) -> None:
    """It stays there, and usable, when this plugin goes: a view keeps memory and nothing of the plugin."""
    temporary_plugin("other", OTHER, attribute="Other")
    weighbridge_host.allow("numa", "other")
    weighbridge_host.load("numa")
    weighbridge_host.load("other")
    view = weighbridge_host.capabilities["taker"](MIB)
    assert weighbridge_host.account("other").charges == {"NUMA buffers": MIB}
    receipt = weighbridge_host.unload("numa")
    assert receipt.survivors == ()
    view[-1] = 1
    assert weighbridge_host.account("other").charges == {"NUMA buffers": MIB}
    del view
    assert weighbridge_host.account("other").charges == {}


def test_it_leaves_nothing_behind(assert_unloads_clean: AssertUnloadsClean) -> None:
    """Loaded and unloaded again and again: no object, no thread, no open file; and its modules were really dropped."""
    receipt = assert_unloads_clean("numa")
    assert receipt.modules_dropped > 5
