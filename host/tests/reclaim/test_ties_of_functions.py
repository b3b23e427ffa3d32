"""What is hung on functions of the standard library: found without leaving anything there, and taken away alone."""

from __future__ import annotations

import gc
import sys
import textwrap
import tracemalloc
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any

import pytest

from weighbridge.reclaim.belongings import Belongings
from weighbridge.reclaim.ties import attributes
from weighbridge.reclaim.ties.attributes import FunctionAttributes
from weighbridge.reclaim.ties.catalogue import wanted
from weighbridge.reclaim.ties.tie import Finding

NAME = "leaver_of_functions"
SOURCE = """
class Load:
    pass

def listen():
    pass
"""


@pytest.fixture
def leaver() -> Iterator[ModuleType]:
    """The plugin's only module."""
    module = sys.modules[NAME] = ModuleType(NAME)
    exec(SOURCE, vars(module))
    yield module
    sys.modules.pop(NAME, None)


@pytest.fixture
def library() -> Iterator[ModuleType]:
    """A copy of a module of the standard library, in its place: its functions have never been asked for anything."""
    original = sys.modules.pop("textwrap")
    copy = sys.modules["textwrap"] = ModuleType("textwrap")
    with open(str(textwrap.__file__), encoding="utf-8") as file:
        exec(compile(file.read(), str(textwrap.__file__), "exec"), vars(copy))
    yield copy
    sys.modules["textwrap"] = original


def cut() -> tuple[Finding, ...]:
    return FunctionAttributes().cut_all(Belongings.of([NAME], wanted()), unsafe=False)


def dictionaries(function: object) -> int:
    return sum(type(held) is dict for held in gc.get_referents(function))


def test_looking_at_functions_gives_none_of_them_a_dictionary(leaver: ModuleType, library: ModuleType) -> None:
    """A function without attributes has no dictionary for them, and there are thousands of functions."""
    functions = [one for one in vars(library).values() if type(one) is FunctionType]
    vars(library)["dedent"].__annotations__ = {"text": str, "return": str}
    before = [dictionaries(one) for one in functions]
    assert functions
    assert cut() == ()
    assert [dictionaries(one) for one in functions] == before


def test_looking_at_functions_leaves_no_memory_in_use(leaver: ModuleType) -> None:
    """Not in their code either, which keeps the names of its variables once somebody has asked for them."""
    belongings = Belongings.of([NAME], wanted())
    tracemalloc.start()
    try:
        assert list(FunctionAttributes().holds(belongings)) == []
        snapshot = tracemalloc.take_snapshot()
    finally:
        tracemalloc.stop()
    mine = snapshot.filter_traces([tracemalloc.Filter(True, attributes.__file__)])
    assert sum(one.size for one in mine.traces) < len(belongings.heap[FunctionType])  # less than a byte for each


@pytest.mark.parametrize("made", [lambda load: load, lambda load: load(), lambda load: (1, load)])
def test_an_attribute_goes_and_those_of_others_stay(
    leaver: ModuleType, library: Any, made: Callable[[Any], Any]
) -> None:
    """Of two attributes of the same function only the plugin's is taken away."""
    library.dedent.mine, library.dedent.theirs = made(vars(leaver)["Load"]), made(int)
    [finding] = cut()
    assert (finding.place, finding.outcome) == ("textwrap.dedent.mine", "cut")
    assert list(vars(library.dedent)) == ["theirs"]


def test_of_a_dictionary_of_several_only_the_plugins_entries_go(leaver: ModuleType, library: Any) -> None:
    """Whoever else is in it finds the same dictionary there, with its own entries."""
    theirs, listen = (lambda: None), vars(leaver)["listen"]
    entries = library.dedent.listeners = {"theirs": theirs, "mine": listen}
    [finding] = cut()
    assert finding.place == "textwrap.dedent.listeners['mine']"
    assert library.dedent.listeners is entries
    assert entries == {"theirs": theirs}


def test_a_dictionary_of_the_plugins_alone_goes_whole(leaver: ModuleType, library: Any) -> None:
    """Half of it would be of no use to anybody: typing.dataclass_transform writes one."""
    library.dedent.transform = {"specifiers": (vars(leaver)["listen"],), "frozen": False, "kwargs": {}}
    [finding] = cut()
    assert finding.place == "textwrap.dedent.transform"
    assert not hasattr(library.dedent, "transform")


def test_a_wrapper_around_a_function_of_the_plugins_is_left_alone(leaver: ModuleType, library: Any) -> None:
    """What a decorator of the library made for the plugin refers to it as it should, and dies with it."""
    library.dedent.__wrapped__ = vars(leaver)["listen"]
    library.dedent.mark = vars(leaver)["Load"]
    assert cut() == ()
    assert library.dedent.mark is vars(leaver)["Load"]


def test_an_attribute_that_was_changed_meanwhile_stays(leaver: ModuleType, library: Any) -> None:
    """Between finding and cutting somebody may have put something else there."""
    library.dedent.mark = vars(leaver)["Load"]
    belongings = Belongings.of([NAME], wanted())
    [hold] = FunctionAttributes().holds(belongings)
    library.dedent.mark = "theirs"
    assert hold.cut is not None
    hold.cut()
    assert library.dedent.mark == "theirs"
