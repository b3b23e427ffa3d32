"""Caches that remember a plugin's objects as arguments or results."""

from __future__ import annotations

import functools
import gc
import linecache
import re
from collections.abc import Iterator, MutableMapping
from functools import partial
from types import CodeType, FunctionType
from typing import Any, Final

from ..belongings import LRU, Belongings
from ..names import is_any, name_of, namespace_of, short, stored
from .tie import Hold, Tie


class LruCaches(Tie):
    """``functools.lru_cache`` of somebody else's function, called with the plugin's objects."""

    name = "lru_cache"
    sentence = "somebody else's functools.lru_cache remembers calls with the plugin's objects"
    kinds = (LRU,)

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry where the cache is unbounded; a bounded one chains its entries in C and can only be emptied."""
        for cache in belongings.heap[LRU]:
            if cache in belongings or not cache.cache_info().currsize:
                continue
            entries = _entries(cache)
            mine = [key for key, value in list(entries.items()) if _remembers(key, value, belongings)]
            if not mine:
                continue
            name = name_of(cache.__wrapped__)
            if cache.cache_info().maxsize is None:
                for key in mine:
                    yield Hold(place=f"{name}.cache[...]", held=_words(key), cut=partial(entries.pop, key, None))
            else:
                note = f"only the whole cache can be emptied: {len(entries) - len(mine)} entries of others go with it"
                yield Hold(place=f"{name}.cache", held=f"{len(mine)} calls", cut=cache.cache_clear, note=note)


def _entries(cache: Any) -> dict[Any, Any]:
    """The dictionary inside a cache, https://github.com/python/cpython/blob/3.11/Modules/_functoolsmodule.c."""
    own = namespace_of(cache)
    return next((held for held in gc.get_referents(cache) if type(held) is dict and held is not own), {})


def _remembers(key: Any, value: Any, belongings: Belongings) -> bool:
    # a key with several arguments is a list of its own kind; an entry of a bounded cache is a link with key and result
    inside = [*list.__iter__(key)] if issubclass(type(key), list) else [key]
    results = gc.get_referents(value) if type(value).__name__ == _LINK else [value]
    return any(one in belongings for one in (*inside, *results))


_LINK: Final = "_lru_list_elem"


def _words(key: Any) -> str:
    return ", ".join(map(short, key)) if issubclass(type(key), list | tuple) else short(key)


class SourceLines(Tie):
    """``linecache`` has the source of modules that were in a traceback, and what attrs and dataclasses generated."""

    name = "linecache"
    sentence = "linecache keeps source lines, among them the methods that attrs generated"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry for each file."""
        for name in belongings.files & linecache.cache.keys():
            place = f"linecache.cache[{short(name)}]"
            yield Hold(place=place, held="source lines", cut=partial(linecache.cache.pop, name, None))


class Patterns(Tie):
    """``re`` keeps the last 512 patterns that it compiled."""

    name = "re cache"
    sentence = "re keeps the last patterns that it compiled"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """Patterns that were compiled from a text in the plugin's code, or that its modules refer to."""
        mine = _constants(belongings)
        for cache_name in ("_cache", "_cache2"):
            cache: MutableMapping[Any, Any] = vars(re).get(cache_name, {})
            for key, pattern in list(cache.items()):
                if id(pattern) in mine or (type(key) is tuple and any(id(part) in mine for part in key)):
                    yield Hold(place=f"re.{cache_name}[...]", held=short(key[1]), cut=partial(cache.pop, key, None))


def _constants(belongings: Belongings) -> set[int]:
    """Identities of texts and patterns in the plugin's code and namespaces."""
    kinds = frozenset({str, bytes, re.Pattern})
    found: set[int] = set()
    for owner in (*belongings.modules, *belongings.classes):
        found.update(id(value) for value in list(namespace_of(owner).values()) if is_any(type(value), kinds))
    waiting: list[CodeType] = [function.__code__ for function in belongings.functions]
    seen: set[int] = set()
    while waiting:
        code = waiting.pop()
        if id(code) in seen:
            continue
        seen.add(id(code))
        for constant in code.co_consts:
            if type(constant) is CodeType:
                waiting.append(constant)
            elif type(constant) in kinds and len(constant) > 1:  # short ones are shared by everybody
                found.add(id(constant))
    return found


class Dispatchers(Tie):
    """``functools.singledispatch`` of somebody else's function, with an implementation for or by the plugin."""

    name = "singledispatch"
    sentence = "somebody else's functools.singledispatch has an implementation that the plugin registered"
    kinds = (FunctionType,)

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry for each type; the weak cache of decisions is emptied with it."""
        space = vars(functools)
        for function in belongings.heap[FunctionType]:
            if function.__globals__ is not space or stored(function, "registry") is None or function in belongings:
                continue
            registry = next((one for one in gc.get_referents(function.registry) if type(one) is dict), {})
            for cls, implementation in list(registry.items()):
                if cls in belongings or implementation in belongings:
                    place = f"{name_of(function)}.registry[{name_of(cls)}]"
                    yield Hold(
                        place=place, held=name_of(implementation), cut=partial(_deregister, function, registry, cls)
                    )


def _deregister(function: Any, registry: dict[Any, Any], cls: type) -> None:
    registry.pop(cls, None)
    function._clear_cache()
