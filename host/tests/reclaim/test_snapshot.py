"""What a load changes in the standard library: seen, undone from the record, and nothing of others kept."""

from __future__ import annotations

import gc
import sys
import textwrap
import weakref
from types import FunctionType, ModuleType

import pytest

from weighbridge.reclaim.belongings import Belongings
from weighbridge.reclaim.snapshot import Change, Snapshot
from weighbridge.reclaim.ties.importing import ModuleAliases


def strangers_function() -> FunctionType:
    """One that is not the standard library's and that nobody else holds."""
    space: dict[str, object] = {"__name__": "stranger"}
    exec("def wrap(text): return [text]", space)
    function = space.pop("wrap")
    assert type(function) is FunctionType
    return function


def test_what_was_replaced_is_known_with_its_original(monkeypatch: pytest.MonkeyPatch) -> None:
    """The record has the original, which died otherwise, and knows the patch by its identity."""
    original, patch = textwrap.wrap, strangers_function()
    snapshot = Snapshot.take()
    monkeypatch.setattr(textwrap, "wrap", patch)
    change = snapshot.differences().at("textwrap", "wrap", patch)
    assert change is not None
    assert not change.was_absent
    assert change.original() is original


def test_what_was_added_was_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to put back."""
    snapshot, added = Snapshot.take(), strangers_function()
    monkeypatch.setattr(textwrap, "added", added, raising=False)
    change = snapshot.differences().at("textwrap", "added", added)
    assert change == Change("textwrap", "added", True, id(added), None)


def test_another_value_is_not_that_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else has patched it since, so the record says nothing of what stands there now."""
    snapshot = Snapshot.take()
    monkeypatch.setattr(textwrap, "wrap", strangers_function())
    changes = snapshot.differences()
    assert changes.at("textwrap", "wrap", strangers_function()) is None


def test_the_patch_of_another_plugin_is_not_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stood there may be another plugin's, which has to die one day."""
    monkeypatch.setattr(textwrap, "_theirs", strangers_function(), raising=False)
    theirs = weakref.ref(vars(textwrap)["_theirs"])
    snapshot, ours = Snapshot.take(), strangers_function()
    vars(textwrap)["_theirs"] = ours
    changes = snapshot.differences()
    del snapshot
    gc.collect()
    change = changes.at("textwrap", "_theirs", ours)
    assert theirs() is None
    assert change is not None
    assert change.original() is None


def test_plain_data_is_no_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counters and settings of the standard library change all the time."""
    snapshot = Snapshot.take()
    monkeypatch.setattr(textwrap, "number", 7, raising=False)
    assert "number" not in {change.attribute for change in snapshot.differences().changes}


def test_a_module_that_the_application_made_by_hand_is_no_alias_of_the_plugins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was there before the load, though there is nothing in it but what the plugin put there; a later one is."""
    plugin, board, late = ModuleType("plugin"), ModuleType("board"), ModuleType("late")
    exec("def post(): pass", vars(plugin))
    monkeypatch.setitem(sys.modules, "plugin", plugin)
    monkeypatch.setitem(sys.modules, "board", board)
    snapshot = Snapshot.take()
    monkeypatch.setitem(sys.modules, "late", late)
    vars(board)["post"] = vars(late)["post"] = vars(plugin)["post"]
    belongings = Belongings.of(["plugin"], patches=snapshot.differences())
    assert [one.place for one in ModuleAliases().find(belongings)] == ["sys.modules['late']"]
