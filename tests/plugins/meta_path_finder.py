"""Leaves a finder in sys.meta_path."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec

TIE = "meta path finder"


class Finder:
    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, None) if name == f"nothing_of_{__name__}" else None


sys.meta_path.append(Finder())


def intact() -> object:
    found = find_spec(f"nothing_of_{__name__}")
    return found.name if found else None
