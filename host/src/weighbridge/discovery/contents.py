"""Which modules a distribution brings, and which distributions it requires: read from its metadata folder.

Nothing is imported for it, ``importlib.metadata`` least of all: see ``entry_points``. Zip files, and what only a
stranger's finder knows, are left out: then it is not known, and whoever asks has to do with package names.

- The files: https://packaging.python.org/en/latest/specifications/recording-installed-packages/#the-record-file
- What it requires: https://packaging.python.org/en/latest/specifications/core-metadata/#requires-dist-multiple-use
- ``top_level.txt``, which setuptools writes where there is no RECORD:
  https://setuptools.pypa.io/en/latest/deprecated/python_eggs.html#top-level-txt-conflict-management-metadata
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from .metadata import SUFFIXES, normalize, read

_MODULE_FILES: Final = (".py", ".so", ".pyd")
_NAME_ENDS: Final = frozenset(" \t([<>=!~;@")


class Shelf:
    """The metadata folders on a path, by normalized name. The first of a name hides the others."""

    def __init__(self, path: Sequence[str]) -> None:
        self._folders: dict[str, list[str]] = {}
        for site in dict.fromkeys(path):
            for child in _listed(site):
                if child.lower().endswith(SUFFIXES):
                    name = normalize(child.rpartition(".")[0].partition("-")[0])
                    self._folders.setdefault(name, []).append(os.path.join(site, child))

    def folder(self, distribution: str, version: str | None = None) -> str | None:
        """The metadata folder of a distribution: that of the version, if there are several."""
        folders = self._folders.get(normalize(distribution), [])
        exact = (one for one in folders if version and f"-{version}." in os.path.basename(one))
        return next(exact, folders[0] if folders else None)

    def claims(self, distribution: str, version: str, wanted: Iterable[str]) -> dict[str, str]:
        """Package or module to the normalized name of its distribution.

        `distribution` itself comes first, then what it requires, directly or not, until every module of `wanted` is
        found. What two of them claim belongs to the first, and of the second only what lies deeper.
        """
        claims: dict[str, str] = {}
        missing = set(wanted)
        waiting = deque([(distribution, self.folder(distribution, version))])
        seen = {normalize(distribution)}
        while waiting and (missing or not claims):
            name, folder = waiting.popleft()
            if folder is None:
                continue
            _claim(claims, normalize(name), modules(folder))
            missing = {module for module in missing if not any(one in claims for one in _downwards(module))}
            for required in requirements(folder):
                if normalize(required) not in seen:
                    seen.add(normalize(required))
                    waiting.append((required, self.folder(required)))
        return claims


def _claim(claims: dict[str, str], distribution: str, files: Sequence[str]) -> None:
    packages = {file.removesuffix(".__init__") for file in files if file.endswith(".__init__")}
    for file in files:
        module = file.removesuffix(".__init__")
        outermost = next((one for one in _downwards(module) if one in packages), module)
        if claims.setdefault(outermost, distribution) != distribution:
            claims.setdefault(module, distribution)


def modules(folder: str) -> list[str]:
    """Dotted names of the modules in a distribution, packages with ``.__init__`` at the end; empty if nothing tells.

    :param folder: its metadata folder.
    """
    recorded = list(_recorded(folder))
    if recorded:
        return recorded
    return [line for line in _lines(folder, "top_level.txt") if _is_dotted(line.split("/"))]


def _recorded(folder: str) -> Iterator[str]:
    for line in _lines(folder, "RECORD"):
        # a name with a comma is quoted, and is no module's
        *parents, name = line.partition(",")[0].replace("\\", "/").split("/")
        parts = [*parents, name.partition(".")[0]]
        if name.endswith(_MODULE_FILES) and _is_dotted(parts):
            yield ".".join(parts)


def requirements(folder: str) -> list[str]:
    """Names of the distributions that one requires, without those that only an extra asks for.

    Other markers are not evaluated: what is required elsewhere is not installed here.

    :param folder: its metadata folder.
    """
    found = []
    for line in _lines(folder, "METADATA") or _lines(folder, "PKG-INFO"):
        if not line:
            break  # what follows is the description
        field, _, value = line.partition(":")
        requirement, _, marker = value.strip().partition(";")
        if field.lower() == "requires-dist" and "extra" not in marker:
            found.append(_name(requirement))
    return found


def _name(requirement: str) -> str:
    end = next((place for place, sign in enumerate(requirement) if sign in _NAME_ENDS), len(requirement))
    return requirement[:end]


def _downwards(module: str) -> Iterator[str]:
    parts = module.split(".")
    return (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _is_dotted(parts: Sequence[str]) -> bool:
    """Whether a path is a module's. Scripts, data folders and ``..`` are none."""
    return all(part.isidentifier() for part in parts)


def _lines(folder: str, file: str) -> list[str]:
    try:
        return read(os.path.join(folder, file)).decode(errors="replace").splitlines()
    except OSError:
        return []


def _listed(site: str) -> list[str]:
    try:
        return os.listdir(site or ".")
    except (OSError, ValueError):  # the import system passes over such an entry, too
        return []
