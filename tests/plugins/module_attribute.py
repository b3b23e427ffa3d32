"""Leaves a class in a module of a shared library."""

from __future__ import annotations

import pluggy

TIE = "module attribute"
CUT = "all"


class Scale:
    place = __name__


setattr(pluggy, f"scale_of_{__name__}", Scale)


def intact() -> object:
    return getattr(pluggy, f"scale_of_{__name__}").place
