"""Leaves an error handler for codecs."""

from __future__ import annotations

import codecs

TIE = "codecs error handler"

NAME = f"dots_{__name__}"


def dots(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "." * (error.end - error.start), error.end


codecs.register_error(NAME, dots)


def intact() -> object:
    return "7 \u20ac".encode("ascii", NAME).decode("ascii")
