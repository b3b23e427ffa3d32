"""Memory from dirty to pristine: what was written to is put back, and nothing else is touched.

Knows addresses and bytes, nothing of WebAssembly engines. :func:`open_resetter` chooses the best way that works here::

    resetter = open_resetter()
    baseline = resetter.capture(address, nbytes, segments)  # or Baseline.of(segments, nbytes)
    ...  # the memory is used
    resetter.reset(address, nbytes, baseline)
"""

from __future__ import annotations

from .advice import AdviceReset, advise_dont_need
from .baseline import Baseline, Segment
from .copying import CopyReset
from .pagemap import DirtyPages
from .resetter import PagemapReset, Resetter, Strategy, open_resetter

__all__ = [
    "AdviceReset",
    "Baseline",
    "CopyReset",
    "DirtyPages",
    "PagemapReset",
    "Resetter",
    "Segment",
    "Strategy",
    "advise_dont_need",
    "open_resetter",
]
