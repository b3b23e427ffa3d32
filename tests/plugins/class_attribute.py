"""Leaves an object in a class of a shared library."""

from __future__ import annotations

import pluggy

TIE = "class attribute"
CUT = "all"


class Scale:
    place = __name__


setattr(pluggy.PluginManager, f"scale_of_{__name__}", Scale())


def intact() -> object:
    return getattr(pluggy.PluginManager, f"scale_of_{__name__}").place
