"""What ``codecs`` keeps of a plugin: https://docs.python.org/3/library/codecs.html."""

from __future__ import annotations

import codecs
import encodings
import gc
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from ..belongings import Belongings
from ..names import name_of, namespace_of, short
from .tie import Hold, Tie


class CachedCodecs(Tie):
    """Codecs that were looked up: kept for ever, by name."""

    name = "cached codec"
    sentence = "the interpreter keeps every codec that was ever looked up"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry for each name of a codec."""
        for place, cache in _caches():
            for name, info in list(cache.items()):
                if _is_mine(info, belongings):
                    yield Hold(place=f"{place}[{short(name)}]", held="codec", cut=partial(cache.pop, name, None))


class CodecSearches(Tie):
    """``codecs.register``: a function that finds codecs by name."""

    name = "codecs search function"
    sentence = "the plugin registered a search function for codecs; it should unregister it with codecs.unregister"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry for each function; the cache of codecs is emptied with it, and filled again by and by."""
        for index, function in enumerate(_search_path()):
            if function in belongings:
                cut = partial(codecs.unregister, function)
                yield Hold(place=f"codecs search path[{index}]", held=name_of(function), cut=cut)


class CodecErrors(Tie):
    """``codecs.register_error``: what to do with text that cannot be encoded."""

    name = "codecs error handler"
    sentence = "the plugin registered an error handler for codecs, which Python cannot unregister before 3.14"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry for each name; a name of Python's own gets Python's own handler again."""
        registry = _error_registry()
        for name, handler in list(registry.items()):
            if handler not in belongings:
                continue
            cut, note = partial(_forget_error, registry, name), ""
            if name in _LOST:
                cut, note = None, "Python keeps no copy of its own handler of that name"
            place = f"codecs.lookup_error({short(name)})"
            yield Hold(place=place, held=name_of(handler), cut=cut, note=note)


_LOST: Final = frozenset({"surrogatepass", "surrogateescape"})
_OWN: Final = ("strict", "ignore", "replace", "xmlcharrefreplace", "backslashreplace", "namereplace")
_KNOWN: Final = "utf-8"


def _caches() -> Iterator[tuple[str, dict[str, Any]]]:
    """The interpreter's cache of codecs, and the one of ``encodings``, which is asked if that has none."""
    info = codecs.lookup(_KNOWN)
    own: dict[str, Any] = vars(encodings)["_cache"]
    yield "encodings._cache", own
    for holder in gc.get_referrers(info):
        if type(holder) is dict and holder is not own and any(holder.get(name) is info for name in ("utf-8", "utf_8")):
            yield "codecs cache", holder


def _search_path() -> list[Any]:
    """The interpreter's list, which has no name in Python: the one that the search of ``encodings`` is in.

    https://github.com/python/cpython/blob/3.11/Python/codecs.c, ``codec_search_path``.
    """
    first = vars(encodings)["search_function"]
    return next((list(holder) for holder in gc.get_referrers(first) if type(holder) is list), [])


def _error_registry() -> dict[str, Any]:
    """The interpreter's dictionary, which has no name in Python: the one with handlers by their names.

    https://github.com/python/cpython/blob/3.11/Python/codecs.c, ``codec_error_registry``.
    """
    known = next((name for name in _OWN if codecs.lookup_error(name) is _own_handler(name)), None)
    if known is None:
        return {}
    holders = gc.get_referrers(_own_handler(known))
    return next((one for one in holders if type(one) is dict and _LOST <= one.keys() and known in one), {})


def _own_handler(name: str) -> Any:
    return vars(codecs).get(f"{name}_errors" if name != "xmlcharrefreplace" else "xmlcharrefreplace_errors")


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
