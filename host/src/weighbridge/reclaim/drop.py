"""Taking modules out of ``sys.modules``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress

from .names import namespace_of


def drop_modules(names: Iterable[str]) -> int:
    """Forget modules, and the attributes by which packages that stay refer to them; how many there were."""
    count = 0
    for name in names:
        module = sys.modules.pop(name, None)
        if module is None:
            continue
        count += 1
        parent, _, child = name.rpartition(".")
        namespace = namespace_of(sys.modules.get(parent))
        if namespace.get(child) is module:
            namespace.pop(child, None)
    _forget_folders()
    return count


def _forget_folders() -> None:
    """Let finders look at their folders again, so that a file edited or added meanwhile is seen.

    As ``importlib.invalidate_caches`` does it, which since Python 3.12 imports ``importlib.metadata`` to do it.
    """
    for finder in list(sys.path_importer_cache.values()):
        with suppress(Exception):  # a stranger's finder that fails is no reason to stop half way
            invalidate = getattr(finder, "invalidate_caches", None)
            if invalidate is not None:
                invalidate()
