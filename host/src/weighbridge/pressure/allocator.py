"""What the C library is told, so that what was freed can be given back."""

from __future__ import annotations

import os
import sys
from typing import Final

_ARENA_MAX: Final = -8
"""M_ARENA_MAX of malloc.h: https://man7.org/linux/man-pages/man3/mallopt.3.html"""


def keep_one_arena() -> bool:
    """Have threads that allocate from now on do it in one arena; whether the C library was told so.

    By default glibc gives them an arena each, up to eight for every processor, and each keeps free memory at its end:
    up to twice the biggest block that was ever freed. ``malloc_trim`` gives nothing of that back but for the first
    arena (``mtrim`` in https://sourceware.org/git/?p=glibc.git;a=blob;f=malloc/malloc.c;hb=refs/tags/glibc-2.36), so it
    counts as occupied and is of use to that one thread only. The price: code that allocates in C without holding
    Python's lock waits for its turn.

    It holds for the whole process and cannot be taken back. What the operator has set goes first; other C libraries
    have nothing of the kind.
    """
    if not sys.platform.startswith("linux") or _is_set_by_operator():
        return False
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return bool(mallopt(_ARENA_MAX, 1))


def _is_set_by_operator() -> bool:
    """https://sourceware.org/glibc/manual/latest/html_node/Memory-Allocation-Tunables.html"""
    return "MALLOC_ARENA_MAX" in os.environ or "glibc.malloc.arena_max" in os.environ.get("GLIBC_TUNABLES", "")
