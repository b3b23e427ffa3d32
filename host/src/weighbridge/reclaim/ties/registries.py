"""Registries of libraries that stay: lists and dictionaries in their modules into which the plugin put something."""

from __future__ import annotations

import operator
import sys
from collections import OrderedDict, UserDict, deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import compress
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary, WeakValueDictionary

import attrs

from ...accounting.modules import is_module, referenced
from ..belongings import Belongings
from ..names import defined_in, name_of, namespace_of, short
from .tie import Hold, Tie

_DEPTH: Final = 4
_MOST: Final = 50_000
_NAMED: Final = 3
"""So many entries of one list are named."""
_PARENTS: Final = frozenset({"__main__", *sys.stdlib_module_names, *sys.builtin_module_names})


class Registries(Tie):
    """An entry in a list, a set or a dictionary of a library that the plugin uses and that stays."""

    name = "registry of a library"
    sentence = "a library that others use has a registry into which the plugin put something; take it out again"
    safe = False  # somebody may be going along the registry just now, or count on the places of its entries

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """Those in modules that the plugin's modules refer to, not the standard library's: these have their own."""
        names = {name for module in belongings.modules for name in referenced(module)} - belongings.names
        strangers = {name for name in names if name.partition(".")[0] not in _PARENTS}
        walk = _Walk(belongings, frozenset(strangers))
        for name in sorted(strangers):
            module = sys.modules.get(name)
            if is_module(module):
                yield from walk.inside(namespace_of(module), name, _DEPTH)


@attrs.define
class _Walk:
    """A walk from the modules of libraries to what they keep in containers and in instances of their own classes."""

    belongings: Belongings
    libraries: frozenset[str]
    seen: set[int] = attrs.field(factory=set)

    def inside(self, namespace: dict[str, Any], place: str, depth: int) -> Iterator[Hold]:
        """Look into the attributes of a module, a class or an instance; these themselves are other ties' affair."""
        for name, value in list(namespace.items()):
            if not name.startswith("__"):
                yield from self._look(value, f"{place}.{name}", depth)

    def _look(self, thing: Any, place: str, depth: int) -> Iterator[Hold]:
        kind = type(thing)
        if depth == 0 or id(thing) in self.seen or len(self.seen) > _MOST:
            return
        read = _reader(kind)
        if read is not None:
            self.seen.add(id(thing))
            yield from self._entries(read(thing), place, depth)
        elif issubclass(kind, list | deque):
            self.seen.add(id(thing))
            yield from self._sequence(thing, place, depth)
        elif issubclass(kind, tuple):  # nothing can be taken out of it; what it contains may be a registry
            self.seen.add(id(thing))
            for value in tuple.__iter__(thing):
                yield from self._look(value, place, depth - 1)
        elif issubclass(kind, type):
            if defined_in(thing) in self.libraries:
                self.seen.add(id(thing))
                yield from self.inside(namespace_of(thing), name_of(thing), depth - 1)
        elif defined_in(kind) in self.libraries and not is_module(thing):
            self.seen.add(id(thing))
            yield from self.inside(namespace_of(thing), place, depth - 1)

    def _sequence(self, container: Any, place: str, depth: int) -> Iterator[Hold]:
        """What the plugin put into a list goes at once: one by one it would be moved together as often."""
        every = list(_iterate(container))
        mine = [value for value in every if value in self.belongings]
        if mine:
            names = ", ".join(dict.fromkeys(map(name_of, mine[:_NAMED])))
            rest = f" and {len(mine) - _NAMED} more" if len(mine) > _NAMED else ""
            yield Hold(place=place, held=names + rest, cut=partial(_take_out_all, container, mine))
        known = set(map(id, mine))
        for value in every:
            if id(value) not in known:
                yield from self._look(value, place, depth - 1)

    def _entries(self, entries: _Entries, place: str, depth: int) -> Iterator[Hold]:
        for key, value, cut in entries:
            where = place if key is None else f"{place}[{name_of(key) if key in self.belongings else short(key)}]"
            mine = next((one for one in (value, key) if one is not None and one in self.belongings), None)
            if mine is not None:
                yield Hold(place=where, held=name_of(mine), cut=cut)
            else:
                yield from self._look(value, where, depth - 1)


def _reader(kind: type) -> Callable[[Any], _Entries] | None:
    """For the one of Python's own containers that a class is, or extends: not every class can be hashed."""
    bases: tuple[type, ...] = type.__dict__["__mro__"].__get__(kind)
    return next((read for base in bases for known, read in _READERS if base is known), None)


_Entries: TypeAlias = Iterator[tuple[Any, Any, Callable[[], object]]]
"""Key, value, and the way to take the entry out. Methods of a subclass are strange code: they are passed by."""


def _items(container: dict[Any, Any]) -> _Entries:
    for key, value in list(dict.items(container)):
        yield key, value, partial(dict.pop, container, key, None)


def _ordered(container: OrderedDict[Any, Any]) -> _Entries:
    # an OrderedDict keeps the order beside the dictionary, which its own method alone knows
    for key, value in list(OrderedDict.items(container)):
        yield key, value, partial(OrderedDict.pop, container, key, None)


def _members(container: set[Any]) -> _Entries:
    for value in list(set.__iter__(container)):
        yield None, value, partial(set.discard, container, value)


def _behind(container: Any) -> _Entries:
    data: Any = namespace_of(container).get("data")
    if type(data) is dict:
        yield from _items(data)


def _iterate(container: Any) -> Iterator[Any]:
    return deque.__iter__(container) if issubclass(type(container), deque) else list.__iter__(container)


def _take_out_all(container: Any, gone: list[Any]) -> None:
    """By identity: comparing could run code of the plugin.

    What stays of a list is written in one instruction without any Python inside, so that no other thread gets between.
    """
    mine = set(map(id, gone))
    if issubclass(type(container), list):
        stays = map(operator.not_, map(mine.__contains__, map(id, list.__iter__(container))))
        list.__setitem__(container, slice(None), compress(list.__iter__(container), stays))
        return
    for place in reversed(range(len(container))):
        if id(container[place]) in mine:
            del container[place]


_READERS: Final[tuple[tuple[type, Callable[[Any], _Entries]], ...]] = (
    (dict, _items),
    (OrderedDict, _ordered),
    (set, _members),
    (UserDict, _behind),
    (WeakKeyDictionary, _behind),
    (WeakValueDictionary, _behind),
)
