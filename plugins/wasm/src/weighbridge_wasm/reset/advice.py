"""``madvise(MADV_DONTNEED)``: pages are given back, and come back as the image or as zeros at the next touch.

Source: madvise(2). Elsewhere than on Linux the same advice may leave the content as it is.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable
from typing import ClassVar, TypeAlias

from .baseline import Baseline
from .copying import put_back_where_different

Advise: TypeAlias = Callable[[int, int], None]
"""``advise(address, nbytes)`` gives whole private pages back; OSError where the kernel does not take the advice."""


def advise_dont_need() -> Advise:
    """The call of this system.

    :raises OSError: it has none.
    """
    advice = getattr(mmap, "MADV_DONTNEED", None)
    if advice is None:
        raise OSError("this system has no MADV_DONTNEED")
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

    def advise(address: int, nbytes: int) -> None:
        if madvise(address, nbytes, advice):
            reason = ctypes.get_errno()
            raise OSError(reason, os.strerror(reason))

    return advise


class AdviceReset:
    """Gives the whole memory back, then puts back what the kernel does not.

    Whether a memory is mapped from an image of its module's data or was filled by copying depends on the engine, its
    settings and the module. So what the baseline holds is compared, and copied where it came back as something else.
    """

    name: ClassVar = "madvise"
    largest_bytes: ClassVar[int | None] = None

    def __init__(self, advise: Advise) -> None:
        self._advise = advise

    def reset(self, address: int, nbytes: int, baseline: Baseline) -> int:
        """See :meth:`.Strategy.reset`."""
        if nbytes:
            self._advise(address, nbytes)
        for start, stop, source in baseline.pieces(0, nbytes):
            if source:
                put_back_where_different(address, start, stop, source)
        return nbytes

    def close(self) -> None:
        """Nothing is held."""
