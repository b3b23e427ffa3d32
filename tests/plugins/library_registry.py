"""Leaves a format behind in the registry of a library that others use."""

from __future__ import annotations

import sys
from types import ModuleType

TIE = "registry of a library"
CUT = "all"

if "shared_library" not in sys.modules:
    sys.modules["shared_library"] = ModuleType("shared_library")
    vars(sys.modules["shared_library"]).update(formats={}, listeners=[], __file__="shared_library.py")
import shared_library  # type: ignore[import-not-found]  # noqa: E402


class Format:
    def read(self) -> str:
        return __name__


def listen() -> str:
    return __name__


shared_library.formats[__name__] = Format
shared_library.listeners.append((1, listen))


def intact() -> object:
    return [shared_library.formats[__name__]().read(), (1, listen) in shared_library.listeners]
