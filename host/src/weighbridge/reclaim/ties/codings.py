"""What ``codecs`` keeps of a plugin: https://docs.python.org/3/library/codecs.html."""

from __future__ import annotations

import codecs
import encodings
import encodings.aliases
import gc
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import attrs

from ..belongings import Belongings
from ..names import name_of, namespace_of, short
from .running import take_out
from .tie import Hold, Tie


class CachedCodecs(Tie):
    """Codecs that were looked up: kept for ever, by name."""

    name = "cached codec"
    sentence = "the interpreter keeps every codec that was ever looked up"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry for each name of a codec."""
        for place, cache in belongings.once(_registries).caches:
            for name, info in list(cache.items()):
                if _is_mine(info, belongings):
                    yield Hold(place=f"{place}[{short(name)}]", held="codec", cut=partial(cache.pop, name, None))


class CodecSearches(Tie):
    """``codecs.register``: a function that finds codecs by name."""

    name = "codecs search function"
    sentence = "the plugin registered a search function for codecs; it should unregister it with codecs.unregister"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry for each function; the cache of codecs is emptied with it, and filled again by and by."""
        for index, function in enumerate(list(belongings.once(_registries).searches)):
            if function in belongings:
                cut = partial(codecs.unregister, function)
                yield Hold(place=f"codecs search path[{index}]", held=name_of(function), cut=cut)


class CodecErrors(Tie):
    """``codecs.register_error``: what to do with text that cannot be encoded."""

    name = "codecs error handler"
    sentence = "the plugin registered an error handler for codecs, which Python cannot unregister before 3.14"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry for each name; a name of Python's own gets Python's own handler again."""
        registry = belongings.once(_registries).errors
        for name, handler in list(registry.items()):
            if handler not in belongings:
                continue
            lost = name in _LOST
            yield Hold(
                place=f"codecs.lookup_error({short(name)})",
                held=name_of(handler),
                cut=None if lost else partial(_forget_error, registry, name),
                note="Python keeps no copy of its own handler of that name" if lost else "",
            )


_LOST: Final = frozenset({"surrogatepass", "surrogateescape"})
_OWN: Final = ("strict", "ignore", "replace", "xmlcharrefreplace", "backslashreplace", "namereplace")
_KNOWN: Final = ("utf-8", "utf_8")


@attrs.frozen
class _Registries:
    """What the interpreter keeps, and has no name for in Python.

    https://github.com/python/cpython/blob/3.11/Python/codecs.c
    """

    searches: list[Any]
    caches: tuple[tuple[str, dict[str, Any]], ...]
    errors: dict[str, Any]


def _registries(_: Belongings) -> _Registries:
    """Told by what is in them since the interpreter started."""
    first = vars(encodings)["search_function"]
    info = codecs.lookup("utf-8")
    name = next((one for one in _OWN if codecs.lookup_error(one) is _own_handler(one)), "strict")
    own: dict[str, Any] = vars(encodings)["_cache"]  # of what was asked for where the interpreter's had nothing
    holders = gc.get_referrers(first, info, _own_handler(name))
    tables = [one for one in holders if type(one) is dict]
    paths = [one for one in holders if type(one) is list and one[0] is first]
    caches = [one for one in tables if one is not own and any(one.get(key) is info for key in _KNOWN)]
    errors = [one for one in tables if one.keys() >= _LOST and name in one]
    return _Registries(
        searches=_path(paths) if len(paths) > 1 else next(iter(paths), []),
        caches=(
            ("encodings._cache", own),
            ("codecs cache", _cache(caches) if len(caches) > 1 else (caches or [{}])[0]),
        ),
        errors=_errors(errors) if len(errors) > 1 else next(iter(errors), {}),
    )


def _path(look_alikes: list[list[Any]]) -> list[Any]:
    """The one of several in which a function turns up that is registered; it is taken out again."""

    def mark(name: str) -> None:
        """Finds nothing."""

    codecs.register(mark)
    found = next((one for one in look_alikes if any(entry is mark for entry in one)), [])
    take_out(found, mark)
    return found


def _cache(look_alikes: list[dict[str, Any]]) -> dict[str, Any]:
    """The one of several in which another name of a codec of Python's own turns up when it is looked up."""
    aliases: dict[str, str] = vars(encodings.aliases)["aliases"]
    names = (
        name for name, codec in aliases.items() if codec == "utf_8" and not any(name in one for one in look_alikes)
    )
    fresh = next(names, "utf-8")
    info = codecs.lookup(fresh)
    found = [one for one in look_alikes if one.get(fresh) is info]
    return found[0] if len(found) == 1 else {}


def _errors(look_alikes: list[dict[str, Any]]) -> dict[str, Any]:
    """The one of several in which a name turns up that is registered; it is taken out again."""
    codecs.register_error(_MARK, codecs.strict_errors)
    found = next((one for one in look_alikes if _MARK in one), {})
    found.pop(_MARK, None)
    return found


_MARK: Final = "weighbridge.which_is_it"


def _own_handler(name: str) -> Any:
    return vars(codecs).get(f"{name}_errors")


def _forget_error(registry: dict[str, Any], name: str) -> None:
    if name in _OWN:
        codecs.register_error(name, _own_handler(name))
    else:
        registry.pop(name, None)


def _is_mine(info: Any, belongings: Belongings) -> bool:
    """A codec is a tuple with attributes; its functions may be anybody's."""
    if info is None or not issubclass(type(info), tuple):
        return info in belongings
    return any(one in belongings for one in (info, *tuple.__iter__(info), *namespace_of(info).values()))
