"""What is in the interpreter before a plugin comes: the part of the standard library that it needs, and room for names.

Otherwise both would be weighed with the plugin, and neither goes when it goes.
"""

from __future__ import annotations

import gc
import importlib
import sys
import tracemalloc
from collections.abc import Container, Iterable
from contextlib import suppress
from typing import Final

from ..accounting.imports import ModuleWeight
from ..accounting.ownership import is_hosts, top_level

_JUMP_BYTES: Final = 100_000
"""No name is as long: the table has grown."""
_DOUBLINGS: Final = 2


def of_stdlib(brought: Iterable[ModuleWeight]) -> list[str]:
    """Modules of the standard library among those that a load has brought in, but for what the host needs itself."""
    return [one.name for one in brought if not one.by_host and top_level(one.name) in sys.stdlib_module_names]


def hosts_since(before: Container[str]) -> list[str]:
    """Modules of the host that have been imported since then, the first one first."""
    return [name for name in list(sys.modules) if name not in before and is_hosts(name)]


def import_modules(names: Iterable[str]) -> int:
    """Import these modules; how many traced bytes they brought."""
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    for name in names:
        with suppress(Exception):  # it is imported when the plugin does what it takes
            importlib.import_module(name)
    gc.collect()
    return tracemalloc.get_traced_memory()[0] - before


def make_room_for_names() -> list[str]:
    """Make the interpreter's table of names big; the names that it was made big with, which have to be kept.

    The table doubles when it is full, by up to a megabyte at once, and never shrinks: whoever comes next would pay.
    Tracing has to be on, for that is how it is seen to grow.
    """
    names: list[str] = []
    doublings = 0
    while doublings < _DOUBLINGS:
        name = f"name {len(names)} of nobody's"
        before, _ = tracemalloc.get_traced_memory()
        name = sys.intern(name)
        doublings += tracemalloc.get_traced_memory()[0] - before > _JUMP_BYTES
        names.append(name)
    return names
