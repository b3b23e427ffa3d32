"""Shared libraries of a plugin and of its dependencies that are mapped: Python closes none before the process ends.

``ctypes`` has no call for it, and the import system keeps the library of a compiled module open:
https://github.com/python/cpython/issues/58580. So they stay whatever is unloaded, and are named.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from typing import Final

import attrs

from .ownership import top_level
from .references import is_module, namespace_of

_MAPS: Final = "/proc/self/maps"
_SMAPS: Final = "/proc/self/smaps"
"""https://docs.kernel.org/filesystems/proc.html: of each mapping its file, and how much of it is resident."""


@attrs.frozen(kw_only=True)
class Library:
    """A shared library that is mapped."""

    path: str
    resident_bytes: int
    """Of all its mappings. What is only read may be shared with other processes, and goes when memory is short."""


def homes(names: Iterable[str]) -> frozenset[str]:
    """Where these modules come from: the folder of each top-level package, and the file of each module without one.

    Beside a package called ``x`` the folder ``x.libs`` has libraries that came in the same wheel:
    https://github.com/pypa/auditwheel.
    """
    found: set[str] = set()
    for name in set(map(top_level, names)):
        module = sys.modules.get(name)
        file = namespace_of(module).get("__file__") if is_module(module) else None
        if type(file) is str:
            is_package = os.path.basename(file).startswith("__init__.")
            home = os.path.dirname(file) if is_package else file
            found |= {home, f"{home}.libs"} if is_package else {home}
    return frozenset(os.path.realpath(home) for home in found)


def mapped(homes: Collection[str]) -> tuple[Library, ...]:
    """The shared libraries in these places that are mapped now, sorted; empty where the system does not tell.

    :param homes: folders and files, as :func:`homes` gives them.
    """
    if not homes:
        return ()
    with suppress(OSError):
        if any(_is_in(path, homes) for path in _paths()):
            sizes: dict[str, int] = {}
            for path, resident in _resident():
                if _is_in(path, homes):
                    sizes[path] = sizes.get(path, 0) + resident
            return tuple(Library(path=path, resident_bytes=sizes[path]) for path in sorted(sizes))
    return ()


def _is_in(path: str, homes: Collection[str]) -> bool:
    name = os.path.basename(path)
    if not (name.endswith(".so") or ".so." in name):
        return False
    return path in homes or any(path.startswith(home + os.sep) for home in homes)


def _paths() -> Iterator[str]:
    with open(_MAPS, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            if path := _path(line):
                yield path


def _resident() -> Iterator[tuple[str, int]]:
    """File and resident bytes of each mapping that has a file."""
    path = ""
    with open(_SMAPS, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            if line.startswith("Rss:"):
                if path:
                    yield path, int(line.split()[1]) * 1024
            elif not line.partition(" ")[0].endswith(":"):
                path = _path(line)


def _path(line: str) -> str:
    """The file of a line such as ``7f00-7f01 r-xp 00000000 08:02 17 /usr/lib/x.so``; empty if it has none."""
    fields = line.rstrip("\n").split(maxsplit=5)
    return fields[5] if len(fields) == 6 and fields[5].startswith("/") else ""
