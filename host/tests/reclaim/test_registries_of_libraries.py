"""Registries of libraries that stay: the entry of the plugin's goes, and nothing else."""

from __future__ import annotations

import gc
import sys
import textwrap
from collections import Counter, OrderedDict, UserDict, deque
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

import pytest

from weighbridge.reclaim.belongings import Belongings
from weighbridge.reclaim.ties.catalogue import wanted
from weighbridge.reclaim.ties.registries import Registries
from weighbridge.reclaim.ties.tie import Finding

NAME, LIBRARY = "leaver_in_registries", "library_with_registries"
Plant = Callable[[str], Any]


class Bystander:
    """Somebody else's class, which is in every registry as well."""


def listen() -> None:
    """Somebody else's function."""


class Table(dict[Any, Any]):
    """A dictionary that nobody but itself may change."""

    def items(self) -> Any:
        """Not what is in it."""
        raise AssertionError("its own method was called")

    def pop(self, *arguments: Any) -> Any:
        """Not allowed."""
        raise AssertionError("its own method was called")


class Row(list[Any]):
    """The same, as a list."""

    def __iter__(self) -> Any:
        raise AssertionError("its own method was called")

    def remove(self, thing: Any) -> None:
        """Not allowed."""
        raise AssertionError("its own method was called")


@pytest.fixture
def library() -> Iterator[Any]:
    """A module of others that stays."""
    module = sys.modules[LIBRARY] = ModuleType(LIBRARY)
    yield module
    del sys.modules[LIBRARY]


@pytest.fixture
def plant(library: Any) -> Iterator[Plant]:
    """Makes the plugin's module from some source, which can name the library."""

    def make(source: str) -> ModuleType:
        module = sys.modules[NAME] = ModuleType(NAME)
        head = f"import {LIBRARY} as library\nclass Load: pass\ndef weigh(): pass\n"
        exec(head + textwrap.dedent(source), vars(module))
        return module

    yield make
    sys.modules.pop(NAME, None)
    gc.collect()


def cut(*, unsafe: bool = True) -> tuple[Finding, ...]:
    return Registries().cut_all(Belongings.of([NAME], wanted()), unsafe=unsafe)


def outcomes() -> list[str]:
    return [one.outcome for one in cut()]


def test_a_list_loses_the_plugins_entries_and_keeps_its_order(plant: Plant, library: Any) -> None:
    """What others put there before, between and after is where it was, equal entries and all."""
    library.listeners = [Bystander, 1]
    plant("library.listeners.append(Load); library.listeners.extend((2, weigh, 1, (0, Load), 3))")
    library.listeners.append(listen)
    [finding] = cut()
    assert (finding.place, finding.outcome) == (f"{LIBRARY}.listeners", "cut")
    assert finding.held == f"{NAME}.Load, {NAME}.weigh, tuple"
    assert library.listeners == [Bystander, 1, 2, 1, 3, listen]


def test_entries_are_compared_with_nothing(plant: Plant, library: Any) -> None:
    """An entry that is equal to everything, or raises when it is asked, is told by identity."""

    class Equal:
        def __eq__(self, other: object) -> bool:
            raise AssertionError("it was compared")

        __hash__ = object.__hash__

    one = Equal()
    library.listeners, library.line = [one], deque([one])
    plant("library.listeners.insert(0, weigh); library.line.extend((Load, 7))")
    assert outcomes() == ["cut", "cut"]
    assert library.listeners[0] is one
    assert (library.line[0] is one, library.line[1]) == (True, 7)


@pytest.mark.parametrize("kind", [dict, OrderedDict, Table, UserDict, Counter], ids=lambda kind: kind.__name__)
def test_a_dictionary_loses_keys_and_values_of_the_plugins(plant: Plant, library: Any, kind: Any) -> None:
    """Of whatever kind it is, the entries of others stay as they are."""
    library.formats = kind()
    library.formats[1], library.formats[Bystander] = Bystander, 2
    plant("library.formats['mine'] = Load; library.formats[Load] = 3")
    assert outcomes() == ["cut", "cut"]
    left = library.formats.data if kind is UserDict else library.formats
    assert list(dict.items(left)) == [(1, Bystander), (Bystander, 2)]
    assert (list(left) if kind is OrderedDict else [1, Bystander]) == [1, Bystander]


def test_a_subclass_of_a_list_is_changed_past_its_own_methods(plant: Plant, library: Any) -> None:
    """They are strange code, and may do anything."""
    library.row = Row([Bystander])
    plant("library.row.append(Load)")
    assert outcomes() == ["cut"]
    assert list.__len__(library.row) == 1
    assert library.row[0] is Bystander


def test_a_set_loses_the_plugins_member(plant: Plant, library: Any) -> None:
    """And no other."""
    library.known = {Bystander, 7}
    plant("library.known.add(Load); library.known.add(weigh)")
    assert outcomes() == ["cut", "cut"]
    assert library.known == {Bystander, 7}


def test_registries_inside_of_registries_are_looked_into(plant: Plant, library: Any) -> None:
    """A dictionary of lists loses the entry, and its own entry and other lists stay."""
    library.events = {"load": [Bystander], "unload": [listen]}
    library.nested = ({"deep": [7]},)
    plant("library.events['load'].append(weigh); library.nested[0]['deep'].append(Load)")
    assert sorted(one.place for one in cut()) == [f"{LIBRARY}.events['load']", f"{LIBRARY}.nested['deep']"]
    assert library.events == {"load": [Bystander], "unload": [listen]}
    assert library.nested == ({"deep": [7]},)


def test_weak_registries_hold_what_they_hold_strongly(plant: Plant, library: Any) -> None:
    """The value of a weak key is a tie, the key of a weak value too; a weak set and a weak key are none."""
    library.weak_set, library.by_key, library.by_value = WeakSet(), WeakKeyDictionary(), WeakValueDictionary()
    library.weak_set.add(Bystander)
    library.by_key[Bystander] = 1
    library.by_key[listen] = 2
    library.by_value["one"] = Bystander
    plant("library.weak_set.add(Load); library.by_key[Load] = 3")
    assert cut() == ()
    plant("library.by_key[library.by_value['one']] = weigh; library.by_value[Load] = library.by_value['one']")
    assert outcomes() == ["cut", "cut"]
    assert dict(library.by_key)[listen] == 2
    assert dict(library.by_value) == {"one": Bystander}
    assert Bystander in library.weak_set


SUBCLASSES = """
class Base:
    known, order = {}, []
    def __init_subclass__(cls):
        Base.known[cls.__name__] = cls
        Base.order.append(cls)
class Own(Base): pass
"""


def test_registries_of_a_class_that_the_plugin_extends(plant: Plant, library: Any) -> None:
    """What ``__init_subclass__`` of a library's class wrote down goes; its own subclasses stay."""
    exec(SUBCLASSES, vars(library))
    plant("class Mine(library.Base):\n    class Inner(library.Base): pass")
    assert set(outcomes()) == {"cut"}
    assert library.Base.known == {"Own": library.Own}
    assert library.Base.order == [library.Own]


def test_many_entries_are_taken_out_at_once(plant: Plant, library: Any) -> None:
    """A list with ten thousand classes of the plugin's is one find, and is written once."""
    library.many = [Bystander]
    plant("library.many.extend(type(f'Load{i}', (), {'__module__': __name__}) for i in range(10_000))")
    [finding] = cut()
    assert finding.held == f"{NAME}.Load0, {NAME}.Load1, {NAME}.Load2 and 9997 more"
    assert library.many == [Bystander]


def test_registries_are_named_only_unless_asked(plant: Plant, library: Any) -> None:
    """Somebody may be going along the list just now."""
    library.listeners = [Bystander]
    module = plant("library.listeners.append(Load)")
    assert [one.outcome for one in cut(unsafe=False)] == ["left"]
    assert library.listeners == [Bystander, module.Load]


def test_a_library_that_the_plugin_does_not_use_is_left_alone(plant: Plant, library: Any) -> None:
    """Only modules that the plugin's refer to are walked through."""
    library.listeners = []
    module = plant("library.listeners.append(Load); del library")
    assert cut() == ()
    assert library.listeners == [module.Load]
