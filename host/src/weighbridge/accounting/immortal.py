"""What the interpreter never gives back of code: interned names and texts.

Since Python 3.12 an interned text lives until the interpreter ends, since 3.13 only those that came with code do: names
and the constants that look like names.
https://github.com/python/cpython/blob/v3.12.1/Objects/unicodeobject.c (``PyUnicode_InternInPlace``),
https://github.com/python/cpython/blob/v3.13.0/Objects/codeobject.c (``intern_strings``), gh-113993.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.machinery import SourceFileLoader, SourcelessFileLoader
from types import CodeType, FunctionType, ModuleType
from typing import Final

_IMMORTAL: Final = 1 << 28
"""No mortal object has as many references; https://peps.python.org/pep-0683."""


class _Reader(SourceFileLoader):
    """Reads the code of a module: from its compiled file, or from its source where none was ever written."""

    def set_data(self, path: str, data: object, *, _mode: int = 0o666) -> None:
        """Write nothing: a measurement leaves no files."""


def immortal_bytes(files: Iterable[str], living: Callable[[], Iterable[object]]) -> int | None:
    """Traced bytes of the immortal texts that came with these modules, which are gone; None while nothing traces.

    Reading a module's code gives the very same objects again, as they are interned. Those that tracing knows came after
    it began, and those that living code uses as well are not there for the sake of these modules.

    :param files: ``__file__`` of the modules; those that cannot be read any more are left out.
    :param living: every function, module and class there is; asked only if there is something to tell apart.
    """
    tracemalloc = sys.modules.get("tracemalloc")
    if tracemalloc is None or not tracemalloc.is_tracing():
        return None
    if sys.version_info < (3, 12):  # an interned text dies with its last user
        return 0
    sizes: dict[int, int] = {}
    for code in map(_code, files):
        for text in _texts(code):
            if _is_immortal(text) and tracemalloc.get_object_traceback(text) is not None:
                sizes[id(text)] = sys.getsizeof(text)
    for text in _in_use(living()) if sizes else ():
        sizes.pop(id(text), None)
    return sum(sizes.values())


def _is_immortal(text: str) -> bool:
    return sys.getrefcount(text) > _IMMORTAL


def _code(file: str) -> CodeType | None:
    loader = (SourcelessFileLoader if file.endswith(".pyc") else _Reader)("module", file)
    try:
        return loader.get_code("module")
    except (ImportError, OSError, SyntaxError, ValueError, EOFError, TypeError):
        return None


def _in_use(living: Iterable[object]) -> Iterator[str]:
    """Texts in the code of functions, and the names in modules and classes."""
    for thing in living:
        kind = type(thing)
        if kind is FunctionType:
            yield from _texts(thing.__code__)  # type: ignore[attr-defined]
        elif issubclass(kind, ModuleType):
            yield from _texts(tuple(ModuleType.__getattribute__(thing, "__dict__")))
        elif issubclass(kind, type):
            yield from _texts(tuple(type.__dict__["__dict__"].__get__(thing)))


def _texts(thing: object) -> Iterator[str]:
    if type(thing) is str:
        yield thing
    elif type(thing) in (tuple, frozenset):
        for part in thing:  # type: ignore[attr-defined]
            yield from _texts(part)
    elif type(thing) is CodeType:
        for part in (thing.co_consts, thing.co_names, thing.co_varnames, thing.co_freevars, thing.co_cellvars):
            yield from _texts(part)
        yield from (thing.co_name, thing.co_qualname, thing.co_filename)
