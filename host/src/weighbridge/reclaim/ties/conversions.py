"""What libraries of the standard library convert, pack and show with: their registries of functions by name or type."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

from ..belongings import Belongings
from ..names import name_of, namespace_of, short
from .tie import Hold, Tie


class SqliteAdapters(Tie):
    """``sqlite3.register_adapter`` and ``register_converter``."""

    name = "sqlite3 adapter"
    sentence = "sqlite3 keeps every adapter and converter; it has no function to take one back"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry for each type, and for each name: https://docs.python.org/3/library/sqlite3.html."""
        space = namespace_of(sys.modules.get("sqlite3"))
        for slot in ("adapters", "converters"):
            table: Any = space.get(slot)
            for key, value in list(table.items()) if type(table) is dict else ():
                if key in belongings or value in belongings:
                    word = name_of(key[0]) if type(key) is tuple else short(key)
                    place = f"sqlite3.{slot}[{word}]"
                    yield Hold(place=place, held=name_of(value), cut=partial(table.pop, key, None))


class ArchiveFormats(Tie):
    """``shutil.register_archive_format`` and ``register_unpack_format``."""

    name = "shutil format"
    sentence = "shutil keeps a format of the plugin's; shutil has functions to unregister it"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry for each format: https://docs.python.org/3/library/shutil.html#archiving-operations."""
        space = namespace_of(sys.modules.get("shutil"))
        for slot in ("_ARCHIVE_FORMATS", "_UNPACK_FORMATS"):
            table: Any = space.get(slot)
            for name, entry in list(table.items()) if type(table) is dict else ():
                if entry in belongings:
                    place = f"shutil.{slot}[{short(name)}]"
                    yield Hold(place=place, held="format", cut=partial(table.pop, name, None))


class Browsers(Tie):
    """``webbrowser.register``."""

    name = "webbrowser"
    sentence = "webbrowser keeps a browser that the plugin registered; it has no function to take it back"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry for each browser: https://docs.python.org/3/library/webbrowser.html#webbrowser.register."""
        space = namespace_of(sys.modules.get("webbrowser"))
        browsers = space.get("_browsers")
        for name, entry in list(browsers.items()) if type(browsers) is dict else ():
            if type(entry) is list and tuple(entry) in belongings:
                place = f"webbrowser._browsers[{short(name)}]"
                yield Hold(place=place, held="browser", cut=partial(_forget_browser, space, name))


class Translations(Tie):
    """``gettext`` keeps every catalogue of messages that it read, by class and file."""

    name = "gettext"
    sentence = "gettext keeps the messages of every file that it ever read"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """Catalogues of a class of the plugin's, and those that were read from the folders of its packages."""
        table: Any = namespace_of(sys.modules.get("gettext")).get("_translations")
        folders = _folders(belongings)
        for key, catalogue in list(table.items()) if type(table) is dict else ():
            path = key[1] if type(key) is tuple and type(key[1]) is str else ""
            if key in belongings or catalogue in belongings or path.startswith(folders):
                place = f"gettext._translations[{short(path)}]"
                yield Hold(place=place, held=name_of(catalogue), cut=partial(table.pop, key, None))


def _forget_browser(space: dict[str, Any], name: str) -> None:
    space["_browsers"].pop(name, None)
    order = space.get("_tryorder")  # None until the first browser is asked for
    if type(order) is list:
        order[:] = [one for one in order if type(one) is not str or one.lower() != name]


def _folders(belongings: Belongings) -> tuple[str, ...]:
    """Of packages: the folder of a single module is everybody's."""
    spaces = map(namespace_of, belongings.modules)
    files = [file for space in spaces if "__path__" in space and isinstance(file := space.get("__file__"), str)]
    return tuple(os.path.join(os.path.dirname(file), "") for file in files)
