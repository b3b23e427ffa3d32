"""Leaves a codec that was looked up in the interpreter's cache, found by the aliases of encodings."""

from __future__ import annotations

import codecs
import encodings
import sys
from typing import Any

TIE = "cached codec"

NAME = f"weights_{__name__.replace('.', '_')}"


def _encode(text: str, errors: str = "strict") -> tuple[bytes, int]:
    return text[::-1].encode("ascii", errors), len(text)


def _decode(content: Any, errors: str = "strict") -> tuple[str, int]:
    return bytes(content).decode("ascii", errors)[::-1], len(content)


def getregentry() -> codecs.CodecInfo:
    return codecs.CodecInfo(_encode, _decode, name=NAME)


def use() -> None:
    sys.modules[f"encodings.{NAME}"] = sys.modules[__name__]
    vars(encodings)[NAME] = sys.modules[__name__]
    codecs.lookup(NAME)
    del sys.modules[f"encodings.{NAME}"], vars(encodings)[NAME]


def intact() -> object:
    return codecs.encode("seven", NAME).decode("ascii")
