"""What a plugin hangs on functions of the standard library."""

from __future__ import annotations

import builtins
import gc
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from types import FunctionType
from typing import Any, Final

from ...accounting.modules import is_module
from ..belongings import Belongings
from ..names import name_of, namespace_of, short
from .tie import Hold, Tie

_BUILTINS: Final = vars(builtins)


class FunctionAttributes(Tie):
    """An attribute of a function of the standard library's.

    ``typing.dataclass_transform`` over ``typing.overload`` is one of these: the second returns the same function to
    everybody, and the first writes into it. https://github.com/python/cpython/blob/3.11/Lib/typing.py
    """

    name = "function attribute"
    sentence = "a function of the standard library got an attribute that refers to the plugin; it is taken away"
    kinds = (FunctionType,)

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An attribute each; of a dictionary that others use as well, an entry each."""
        libraries = _libraries(belongings)
        for function in belongings.heap[FunctionType]:
            if id(function.__globals__) in libraries and not belongings.is_code(function):
                yield from _of(function, belongings)


def _libraries(belongings: Belongings) -> set[int]:
    """Identities of the namespaces of the standard library's modules."""
    return {
        id(namespace_of(module))
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in sys.stdlib_module_names and is_module(module) and module not in belongings
    }


def _of(function: FunctionType, belongings: Belongings) -> Iterator[Hold]:
    found = [*_dictionaries(function)]
    if not found or function in belongings:  # a wrapper of the library's around a function of the plugin's
        return
    for attributes in found:
        for name, value in list(attributes.items()):
            place = f"{name_of(function)}.{name}"
            if type(value) is dict:
                yield from _in_dictionary(attributes, name, place, belongings)
            elif value in belongings:
                yield Hold(place=place, held=name_of(value), cut=partial(_take, attributes, name, value))


def _in_dictionary(attributes: dict[str, Any], name: str, place: str, belongings: Belongings) -> Iterator[Hold]:
    """All of it if there is nothing of others in it, or else the plugin's entries."""
    entries = attributes[name]
    mine = {key: value for key, value in list(entries.items()) if key in belongings or value in belongings}
    if mine and _is_plain(value for key, value in list(entries.items()) if key not in mine):
        held = name_of(next(iter(mine.values())))
        yield Hold(place=place, held=held, cut=partial(_take, attributes, name, entries))
        return
    for key, value in mine.items():
        where = f"{place}[{name_of(key) if key in belongings else short(key)}]"
        yield Hold(place=where, held=name_of(value), cut=partial(_take, entries, key, value))


def _dictionaries(function: FunctionType) -> Iterator[dict[str, Any]]:
    """Its ``__dict__`` and its annotations, where it has any: asking for them makes them, for thousands."""
    space, defaults = function.__globals__, function.__kwdefaults__
    for held in gc.get_referents(function):
        if type(held) is dict and held is not space and held is not _BUILTINS and held is not defaults and held:
            yield held


def _is_plain(values: Iterable[Any]) -> bool:
    """Whether there is nothing of anybody's among them."""
    return all(value is None or type(value) in _PLAIN or (type(value) in _EMPTY and not value) for value in values)


_PLAIN: Final = frozenset({bool, int, float, str, bytes})
_EMPTY: Final = frozenset({dict, list, set, tuple})


def _take(attributes: dict[Any, Any], name: Any, expected: object) -> None:
    """Take it away, unless somebody else has changed it meanwhile."""
    if attributes.get(name) is expected:
        del attributes[name]
