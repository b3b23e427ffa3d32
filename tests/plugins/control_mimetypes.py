"""Adds a type to mimetypes, which keeps two texts."""

from __future__ import annotations

import mimetypes

TIE = ()

mimetypes.add_type(f"application/{__name__}", f".{__name__}")


def intact() -> object:
    return mimetypes.guess_type(f"load.{__name__}")[0]
