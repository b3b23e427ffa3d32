"""Leaves a filter for a category of its own."""

from __future__ import annotations

import warnings

TIE = "warnings filter"


class OverloadWarning(UserWarning):
    pass


warnings.simplefilter("error", OverloadWarning)


def intact() -> object:
    try:
        warnings.warn("full", OverloadWarning, stacklevel=1)
    except OverloadWarning as error:
        return str(error)
    return False
