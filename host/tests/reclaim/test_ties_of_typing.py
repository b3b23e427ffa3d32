"""What typing remembers for a plugin is forgotten, and whoever still holds a part of the plugin can go on using it."""

from __future__ import annotations

import sys
import typing
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from weighbridge.reclaim.belongings import Belongings
from weighbridge.reclaim.ties.catalogue import wanted
from weighbridge.reclaim.ties.overloads import TypingCaches

NAME = "leaver_of_typing"
SOURCE = """
import typing
calls = []
def subscript(*names, **more):
    calls.append(names)
    return names, more
cached = typing._tp_cache(subscript)
"""


@pytest.fixture
def leaver() -> Iterator[Any]:
    """The plugin's only module."""
    before = list(vars(typing)["_cleanups"])
    module = sys.modules[NAME] = ModuleType(NAME)
    exec(SOURCE, vars(module))
    yield module
    sys.modules.pop(NAME, None)
    vars(typing)["_cleanups"][:] = before


def test_a_function_whose_cache_is_gone_works_without(leaver: Any) -> None:
    """An old instance that the application holds calls the plugin's old function, each time anew."""
    leaver.cached("a")
    leaver.cached("a")
    assert leaver.calls == [("a",)]
    found = TypingCaches().cut_all(Belongings.of([NAME], wanted()), unsafe=False)
    assert {one.outcome for one in found} == {"cut"}
    assert leaver.cached("a", more=1) == (("a",), {"more": 1})
    assert leaver.cached(["cannot be hashed"]) == ((["cannot be hashed"],), {})


def test_caches_of_others_stay(leaver: Any) -> None:
    """Of what typing caches for itself nothing is gone."""
    known, cleanups = dict(vars(typing).get("_caches", {})), list(vars(typing)["_cleanups"])
    known.pop(leaver.subscript, None)
    TypingCaches().cut_all(Belongings.of([NAME], wanted()), unsafe=False)
    assert vars(typing).get("_caches", {}) == known
    assert vars(typing)["_cleanups"] == cleanups[:-1]
