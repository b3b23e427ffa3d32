"""Leaves a path hook, and the finder that it made for a path."""

from __future__ import annotations

import pkgutil
import sys
from typing import Any

TIE = ("path hook", "path_importer_cache")
PATH = f"memory:{__name__}"


class Finder:
    path_entry = PATH


def hook(path: str) -> Any:
    if path != PATH:
        raise ImportError(path)
    return Finder()


sys.path_hooks.append(hook)
pkgutil.get_importer(PATH)


def intact() -> object:
    sys.path_importer_cache.pop(PATH, None)
    finder = pkgutil.get_importer(PATH)
    return getattr(finder, "path_entry", None)
