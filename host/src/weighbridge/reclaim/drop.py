"""Taking modules out of ``sys.modules``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable


def drop_modules(names: Iterable[str]) -> int:
    """Forget modules, and the attributes by which packages that stay refer to them; how many there were."""
    count = 0
    for name in names:
        module = sys.modules.pop(name, None)
        if module is None:
            continue
        count += 1
        parent, _, child = name.rpartition(".")
        package = sys.modules.get(parent)
        if package is not None and vars(package).get(child) is module:
            delattr(package, child)
    # finders cache what folders contain, and a file edited meanwhile has to be seen
    importlib.invalidate_caches()
    return count
