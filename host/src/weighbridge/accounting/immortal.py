"""What the interpreter never gives back of code: interned names and texts.

Since Python 3.13 the names and constants that importlib reads from a compiled file are interned for ever:
https://github.com/python/cpython/blob/3.13/Objects/codeobject.c (``intern_constants``), gh-113993.
"""

from __future__ import annotations

import marshal
import sys
from collections.abc import Iterable
from types import CodeType
from typing import Final

_HEADER_BYTES: Final = 16
"""https://peps.python.org/pep-0552"""
_IMMORTAL: Final = 1 << 28
"""No mortal object has as many references; https://peps.python.org/pep-0683."""


def immortal_bytes(compiled: Iterable[str]) -> int | None:
    """Traced bytes of the immortal texts that came with files of compiled code (``.pyc``); None while nothing traces.

    Unmarshalling gives the very same objects again, as they are interned; those that tracing knows came after it began.
    """
    tracemalloc = sys.modules.get("tracemalloc")
    if tracemalloc is None or not tracemalloc.is_tracing():
        return None
    if sys.version_info < (3, 12):  # an interned text dies with its last user
        return 0
    sizes: dict[int, int] = {}
    for file in compiled:
        try:
            with open(file, "rb") as stream:
                code = marshal.loads(stream.read()[_HEADER_BYTES:])
        except (OSError, ValueError, EOFError, TypeError):
            continue
        for text in _texts(code):
            if sys.getrefcount(text) > _IMMORTAL and tracemalloc.get_object_traceback(text) is not None:
                sizes[id(text)] = sys.getsizeof(text)
        del code
    return sum(sizes.values())


def _texts(thing: object) -> Iterable[str]:
    if type(thing) is str:
        yield thing
    elif type(thing) in (tuple, frozenset):
        for part in thing:  # type: ignore[attr-defined]
            yield from _texts(part)
    elif type(thing) is CodeType:
        for part in (thing.co_consts, thing.co_names, thing.co_varnames, thing.co_freevars, thing.co_cellvars):
            yield from _texts(part)
        yield from (thing.co_name, thing.co_qualname, thing.co_filename)
