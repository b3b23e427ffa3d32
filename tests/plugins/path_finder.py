"""Leaves a finder of its own in sys.path_importer_cache, without any hook."""

from __future__ import annotations

import sys
from typing import Any

TIE = "path_importer_cache"
PATH = f"memory:{__name__}"
cache: dict[str, Any] = sys.path_importer_cache


class Finder: ...


cache[PATH] = Finder()


def intact() -> object:
    return type(cache[PATH]) is Finder
