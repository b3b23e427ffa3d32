"""Entry points straight from the metadata on disk: the same list as ``importlib_metadata.entry_points()``, only sooner.

Importing ``importlib.metadata`` takes longer than reading the metadata of 200 distributions, so this module imports
nothing that a bare interpreter has not loaded already. That is why its annotations are quoted (``__future__`` is a file
on disk, too) and why it has neither ``typing`` nor ``re``. What it cannot read itself, it leaves to the library:
zip files on the path, and everything as soon as ``sys.meta_path`` holds a stranger that finds distributions.

The rules it follows are those of importlib-metadata 10.2, where no standard gives any:
https://github.com/python/importlib_metadata/blob/v10.2.0/importlib_metadata/__init__.py
"""

import os
import sys

from .metadata import SUFFIXES, Folder, normalize

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from weighbridge_hookspecs.errors import MetadataError

    from .library import Borrowed


class EntryPoint:
    """One entry point, not imported.

    ``location`` is the path of the metadata folder, or None where the library found it; ``site`` is the entry of
    ``sys.path`` that it was found on, or None where a stranger's finder did not say.
    """

    __slots__ = ("distribution", "group", "location", "name", "site", "value", "version")

    def __init__(
        self,
        name: str,
        group: str,
        value: str,
        *,
        distribution: str,
        version: str,
        location: "str | None" = None,
        site: "str | None" = None,
    ) -> None:
        self.name = name
        self.group = group
        self.value = value
        self.distribution = distribution
        self.version = version
        self.location = location
        self.site = site

    def _facts(self) -> "tuple[str | None, ...]":
        return tuple(getattr(self, slot) for slot in self.__slots__)

    def __eq__(self, other: object) -> bool:
        return self._facts() == other._facts() if isinstance(other, EntryPoint) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._facts())

    def __repr__(self) -> str:
        return f"<EntryPoint {self.name} = {self.value!r} [{self.group}] of {self.distribution} {self.version}>"


def scan(
    groups: "Sequence[str]", path: "Sequence[str] | None" = None, *, problems: "list[MetadataError] | None" = None
) -> "list[EntryPoint]":
    """List the entry points of some groups, in the order of ``importlib_metadata.entry_points()``.

    :param path: folders and zip files to search instead of ``sys.path``.
    :param problems: a list that takes what is broken; what can be read of the rest is returned all the same.
    """
    if isinstance(groups, str):
        raise TypeError(f"groups is the text {groups!r}: give a sequence of names, such as ({groups!r},)")
    problems = [] if problems is None else problems
    sources = _sources(path, problems)
    names = [group.encode() for group in groups]
    matching = [source for source in sources if source.mentions(names, problems)]
    return [point for source in _winners(sources, matching) for point in _points(source, frozenset(groups), problems)]


def _sources(path: "Sequence[str] | None", problems: "list[MetadataError]") -> "Sequence[Folder | Borrowed]":
    if any(map(_is_foreign, sys.meta_path)):
        from .library import everything

        found = everything(path, problems)
        if found is not None:
            return found
    sources: list[Folder | Borrowed] = []
    for site in dict.fromkeys(_texts(sys.path if path is None else path)):
        sources += _on(site, problems)
    return sources


def _is_foreign(finder: object) -> bool:
    if not getattr(finder, "find_distributions", None):
        return False
    module: str = getattr(finder, "__module__", "")
    # The backport's finder also comes in copies, such as `setuptools._vendor.importlib_metadata`.
    return module != "_frozen_importlib_external" and module.rpartition(".")[2] != "importlib_metadata"


def _texts(path: "Iterable[object]") -> "Iterator[str]":
    for entry in path:
        if isinstance(entry, str):
            yield entry
        elif isinstance(entry, os.PathLike):
            yield os.fsdecode(entry)


def _on(site: str, problems: "list[MetadataError]") -> "Sequence[Folder | Borrowed]":
    try:
        children = os.listdir(site or ".")
    except NotADirectoryError:
        return _in_zip(site, problems)
    except (OSError, ValueError):  # The import system passes over such an entry, too.
        return ()
    return _folders(site, children)


def _in_zip(site: str, problems: "list[MetadataError]") -> "Sequence[Borrowed]":
    if not os.path.isfile(site):
        return ()
    from .library import in_zip

    return in_zip(site, problems)


def _folders(site: str, children: "Iterable[str]") -> "list[Folder]":
    is_egg = os.path.basename(site).lower().endswith(".egg")
    infos: dict[str, list[Folder]] = {}
    eggs = []
    for child in children:
        low = child.lower()
        if low.endswith(SUFFIXES):
            key = normalize(low.rpartition(".")[0].partition("-")[0])
            infos.setdefault(key, []).append(Folder(site, child, key))
        elif is_egg and low == "egg-info":
            eggs.append(Folder(site, child, None))
    # The library keeps folders together by name, in the order in which the names came up.
    return [folder for same_name in infos.values() for folder in same_name] + eggs


def _winners(
    sources: "Sequence[Folder | Borrowed]", matching: "Sequence[Folder | Borrowed]"
) -> "Iterator[Folder | Borrowed]":
    keys = {source.key for source in matching}
    rivals = [source for source in sources if source.key in keys]
    rivals.sort(key=lambda source: not source.is_valid())
    seen = set()
    for source in rivals:
        if source.key is None or source.key not in seen:
            seen.add(source.key)
            yield source


def _points(
    source: "Folder | Borrowed", groups: "frozenset[str]", problems: "list[MetadataError]"
) -> "Iterator[EntryPoint]":
    identity = None
    for group, name, value in source.pairs(groups, problems):
        identity = identity or source.identity(problems)
        if identity is None:
            return
        yield EntryPoint(
            name,
            group,
            value,
            distribution=identity[0],
            version=identity[1],
            location=source.location,
            site=source.site,
        )
