"""What the interpreter never gives back of code: interned names and texts.

Since Python 3.12 an interned text lives until the interpreter ends, since 3.13 only one that came with code: names,
and what looks like a name and was read from a compiled file.
https://github.com/python/cpython/blob/v3.12.1/Objects/unicodeobject.c (``PyUnicode_InternInPlace``),
https://github.com/python/cpython/blob/v3.13.0/Objects/codeobject.c (``intern_strings``), gh-113993.
"""

from __future__ import annotations

import marshal
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from importlib.util import cache_from_source
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

from .references import namespace_of, stored_in

_HEADER_BYTES: Final = 16
"""https://peps.python.org/pep-0552"""
_IMMORTAL: Final = 1 << 28
"""No mortal object has as many references; https://peps.python.org/pep-0683."""


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
            trace = tracemalloc.get_object_traceback(text) if sys.getrefcount(text) > _IMMORTAL else None
            if trace is not None and trace[-1].filename != __file__:  # or it is there because we have read it
                sizes[id(text)] = sys.getsizeof(text)
    for text in _in_use(living()) if sizes else ():
        sizes.pop(id(text), None)
    return sum(sizes.values())


def _code(file: str) -> CodeType | None:
    """The code of a module; from its source, where there is no compiled file of it."""
    with suppress(OSError, SyntaxError, ValueError, EOFError, TypeError, NotImplementedError):
        if file.endswith(".pyc"):
            return _unmarshalled(file)
        if file.endswith(".py"):
            cached = cache_from_source(file)
            return _unmarshalled(cached) if _is_current(cached, file) else _compiled(file)
    return None


def _is_current(cached: str, file: str) -> bool:
    """Whether a compiled file belongs to the source as it is; those that go by a hash are taken at their word."""
    try:
        with open(cached, "rb") as stream:
            header = stream.read(_HEADER_BYTES)
    except OSError:
        return False
    status = os.stat(file)
    flags, seconds, size = (int.from_bytes(header[start : start + 4], "little") for start in (4, 8, 12))
    return bool(flags) or (seconds, size) == (int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF)


def _unmarshalled(file: str) -> CodeType | None:
    with open(file, "rb") as stream:
        code = marshal.loads(stream.read()[_HEADER_BYTES:])
    return code if type(code) is CodeType else None


def _compiled(file: str) -> CodeType:
    with open(file, "rb") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its import has warned already
        return compile(stream.read(), file, "exec", dont_inherit=True)


def _in_use(living: Iterable[Any]) -> Iterator[str]:
    """Texts in the code of functions, and the names in modules and classes."""
    for thing in living:
        kind = type(thing)
        if kind is FunctionType:
            yield from _texts(thing.__code__)
        elif issubclass(kind, ModuleType):
            yield from _texts(tuple(namespace_of(thing)))
        elif issubclass(kind, type):
            yield from _texts(tuple(stored_in(thing)))


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
