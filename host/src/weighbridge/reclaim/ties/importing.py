"""What the import system and its relatives keep."""

from __future__ import annotations

import sys
from collections.abc import Iterator, MutableMapping, MutableSequence
from functools import partial
from types import FunctionType, ModuleType
from typing import Any

from ...accounting.modules import is_module
from ..belongings import Belongings
from ..names import defined_in, name_of, namespace_of, short
from .pristine import pristine
from .tie import Hold, Tie


def _listed(place: str, entries: MutableSequence[Any], belongings: Belongings) -> Iterator[Hold]:
    """Entries of a list; taken out by identity, in the list itself, which others may hold."""
    for index, entry in enumerate(list(entries)):
        if entry in belongings:
            yield Hold(place=f"{place}[{index}]", held=name_of(entry), cut=partial(_remove, entries, entry))


def _remove(entries: MutableSequence[Any], entry: object) -> None:
    for index, one in enumerate(entries):
        if one is entry:
            del entries[index]
            return


def _keyed(place: str, entries: MutableMapping[Any, Any], belongings: Belongings) -> Iterator[Hold]:
    for key, value in list(entries.items()):
        if key in belongings or value in belongings:
            yield Hold(place=f"{place}[{short(key)}]", held=name_of(value), cut=partial(entries.pop, key, None))


class Finders(Tie):
    """``sys.meta_path``."""

    name = "meta path finder"
    sentence = "a finder of the plugin's is in sys.meta_path; remove it on deactivation"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """Finders of the plugin's, each of its own."""
        yield from _listed("sys.meta_path", sys.meta_path, belongings)
        first = (pristine(sys) or {}).get("meta_path")
        if type(first) is list and first is not sys.meta_path:
            yield from _listed("the first list of sys.meta_path", first, belongings)


class PathHooks(Tie):
    """``sys.path_hooks``."""

    name = "path hook"
    sentence = "a hook of the plugin's is in sys.path_hooks; remove it on deactivation"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """Hooks of the plugin's; the finders that they made are in a cache, which has a tie of its own."""
        yield from _listed("sys.path_hooks", sys.path_hooks, belongings)
        first = (pristine(sys) or {}).get("path_hooks")
        if type(first) is list and first is not sys.path_hooks:
            yield from _listed("the first list of sys.path_hooks", first, belongings)


class PathFinders(Tie):
    """``sys.path_importer_cache``: finders by path, the plugin's and those of the plugin's folders."""

    name = "path_importer_cache"
    sentence = "sys.path_importer_cache has a finder of the plugin's, or one that lists the plugin's folder"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry is made again when the path is asked for."""
        cache: MutableMapping[Any, Any] = sys.path_importer_cache
        folders = _folders(belongings)
        for path, finder in list(cache.items()):
            if finder in belongings or path in folders:
                place = f"sys.path_importer_cache[{short(path)}]"
                yield Hold(place=place, held=name_of(finder), cut=partial(cache.pop, path, None))


def _folders(belongings: Belongings) -> set[str]:
    """Of the plugin's packages; not of namespace packages, which others may be in."""
    found: set[str] = set()
    for module in belongings.modules:
        space = namespace_of(module)
        path = space.get("__path__")
        if type(path) is list and isinstance(space.get("__file__"), str):
            found.update(one for one in path if isinstance(one, str))
    return found


class ModuleAliases(Tie):
    """A module of the plugin's in ``sys.modules`` under a name that is not the plugin's, such as ``six.moves``."""

    name = "sys.modules alias"
    sentence = "sys.modules has a module or an object of the plugin's under the name of another"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """The entry goes, and the attribute of the package that the name says it is in."""
        for name, module in list(sys.modules.items()):
            if name in belongings.names or module is None:
                continue
            if module in belongings or is_made_by_hand(name, module, belongings):
                cut = partial(_forget, name, module)
                yield Hold(place=f"sys.modules[{short(name)}]", held=name_of(module), cut=cut)


def is_made_by_hand(name: str, module: Any, belongings: Belongings) -> bool:
    """Whether it is a module that nobody imported, new since the load, with nothing but the plugin's code in it."""
    if name in belongings.patches.by_hand:
        return False
    space = namespace_of(module)
    if not is_module(module) or space.get("__spec__") is not None or space.get("__name__") == "__main__":
        return False
    code = [one for one in list(space.values()) if type(one) is FunctionType or issubclass(type(one), type)]
    return bool(code) and all(one in belongings for one in code)


def _forget(name: str, module: object) -> None:
    if sys.modules.get(name) is module:
        del sys.modules[name]
    parent, _, child = name.rpartition(".")
    space = namespace_of(sys.modules.get(parent))
    if space.get(child) is module:
        del space[child]


def _archives(belongings: Belongings) -> set[str]:
    """Zip files that modules of the plugin's were imported from."""
    return {archive for module in belongings.modules if (archive := _archive(module)) is not None}


def _archive(module: ModuleType) -> str | None:
    loader = namespace_of(module).get("__loader__")
    if type(loader).__name__ != "zipimporter" or defined_in(type(loader)) != "zipimport":
        return None
    archive = namespace_of(loader).get("archive")
    return archive if isinstance(archive, str) else None


class ZipDirectories(Tie):
    """``zipimport`` keeps the directory of each archive."""

    name = "zipimport cache"
    sentence = "zipimport keeps the directory of the archive that the plugin was imported from"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """Archives that no module of others was imported from; its finders are let go of along."""
        cache = namespace_of(sys.modules.get("zipimport")).get("_zip_directory_cache")
        if type(cache) is not dict:
            return
        mine = {id(module) for module in belongings.modules}
        others = {_archive(one) for one in list(sys.modules.values()) if is_module(one) and id(one) not in mine}
        for archive in (_archives(belongings) - others) & cache.keys():
            place = f"zipimport._zip_directory_cache[{short(archive)}]"
            yield Hold(place=place, held="names of files", cut=partial(_forget_archive, cache, archive))


def _forget_archive(cache: dict[str, Any], archive: str) -> None:
    cache.pop(archive, None)
    finders: MutableMapping[Any, Any] = sys.path_importer_cache
    for path in [path for path in list(finders) if path == archive or str(path).startswith(archive + "/")]:
        finders.pop(path, None)


class PackageResources(Tie):
    """``pkg_resources``: handlers by type of loader, and who listens to its working set."""

    name = "pkg_resources"
    sentence = "the plugin registered a loader type, a finder or a listener with pkg_resources, which cannot unregister"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """Entries of the plugin's in its registries, if somebody has imported it."""
        space = namespace_of(sys.modules.get("pkg_resources"))
        for name in ("_provider_factories", "_distribution_finders", "_namespace_handlers"):
            if type(registry := space.get(name)) is dict:
                yield from _keyed(f"pkg_resources.{name}", registry, belongings)
        callbacks = namespace_of(space.get("working_set")).get("callbacks")
        if type(callbacks) is list:
            yield from _listed("pkg_resources.working_set.callbacks", callbacks, belongings)
