"""Leaves a search function for codecs."""

from __future__ import annotations

import codecs

TIE = "codecs search function"

NAME = f"weights_{__name__}"


def search(name: str) -> codecs.CodecInfo | None:
    if name != NAME:
        return None
    ascii_codec = codecs.lookup("ascii")
    return codecs.CodecInfo(ascii_codec.encode, ascii_codec.decode, name=NAME)


codecs.register(search)


def intact() -> object:
    return codecs.encode("seven", NAME).decode("ascii")
