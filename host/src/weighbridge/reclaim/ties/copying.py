"""Registries of ``copyreg``, ``copy`` and ``pickle``, those of ``multiprocessing`` among them."""

from __future__ import annotations

import copyreg
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from ..belongings import Belongings
from ..names import name_of, namespace_of, short
from .tie import Hold, Tie


class Reducers(Tie):
    """``copyreg.pickle``: how to pickle a type."""

    name = "copyreg"
    sentence = "copyreg keeps what the plugin registered for pickling; a class can define __reduce__ instead"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry for each type: https://docs.python.org/3/library/copyreg.html#copyreg.pickle."""
        yield from _entries("copyreg.dispatch_table", copyreg.dispatch_table, belongings)


class Extensions(Tie):
    """``copyreg.add_extension``: a number in place of a name in pickles."""

    name = "copyreg extension"
    sentence = "copyreg keeps an extension code of the plugin's, and with it what was pickled by that code"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry for each code: https://docs.python.org/3/library/copyreg.html#copyreg.add_extension."""
        registry: dict[Any, int] = vars(copyreg)["_extension_registry"]
        cache: dict[int, Any] = vars(copyreg)["_extension_cache"]
        for key, code in list(registry.items()):
            if key[0] in belongings.names or cache.get(code) in belongings:
                cut = partial(copyreg.remove_extension, key[0], key[1], code)
                yield Hold(place=f"copyreg._extension_registry[{key!r}]", held=f"{key[0]}.{key[1]}", cut=cut)


class Copiers(Tie):
    """Entries for types in the tables of ``copy``: they are private, and written to all the same."""

    name = "copy dispatch"
    sentence = "the plugin registered in copy how to copy a type; a class can define __copy__ or __deepcopy__ instead"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry for each type: https://github.com/python/cpython/blob/3.13/Lib/copy.py."""
        space = namespace_of(sys.modules.get("copy"))
        for slot in ("_copy_dispatch", "_deepcopy_dispatch"):
            yield from _entries(f"copy.{slot}", space.get(slot), belongings)


class Picklers(Tie):
    """Tables of picklers: ``pickle._Pickler.dispatch``, and ``multiprocessing``'s, which its ``register`` fills."""

    name = "pickle dispatch"
    sentence = "somebody else's pickler keeps what the plugin registered for a type"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry for each type, in picklers that are not the plugin's."""
        space = namespace_of(sys.modules.get("pickle"))
        roots = {id(space[name]) for name in _ROOTS if name in space}
        for cls in belongings.heap[type] if roots else ():
            if roots.isdisjoint(map(id, type.__dict__["__mro__"].__get__(cls))) or cls in belongings:
                continue
            for slot in _TABLES:
                yield from _entries(f"{name_of(cls)}.{slot}", namespace_of(cls).get(slot), belongings)


_ROOTS: Final = ("Pickler", "_Pickler", "_Unpickler", "Unpickler")
_TABLES: Final = ("dispatch", "dispatch_table", "_extra_reducers")


def _entries(place: str, table: Any, belongings: Belongings) -> Iterator[Hold]:
    """Where a key or a value is the plugin's."""
    if type(table) is not dict or (place != _OWN and table is copyreg.dispatch_table):
        return
    for key, value in list(table.items()):
        if key in belongings or value in belongings:
            word = name_of(key) if issubclass(type(key), type) else short(key)
            held = key if key in belongings else value
            yield Hold(place=f"{place}[{word}]", held=name_of(held), cut=partial(table.pop, key, None))


_OWN: Final = "copyreg.dispatch_table"
