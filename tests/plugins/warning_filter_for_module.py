"""Leaves a filter for warnings from its own module."""

from __future__ import annotations

import warnings

TIE = "warnings filter for a module"
CUT = "all"
BYTES_ONLY = True

warnings.filterwarnings("error", category=UserWarning, module=rf"{__name__}\Z")


def intact() -> object:
    try:
        warnings.warn("full", UserWarning, stacklevel=1)
    except UserWarning as error:
        return str(error)
    return False
