"""Leaves an extension code in copyreg, and its class in the cache of those."""

from __future__ import annotations

import copyreg
import pickle
import zlib

TIE = "copyreg extension"


class Load:
    pass


CODE = 240 + zlib.crc32(__name__.encode()) % 1000
copyreg.add_extension(__name__, "Load", CODE)


def use() -> None:
    pickle.loads(pickle.dumps(Load, 2))


def intact() -> object:
    content = pickle.dumps(Load, 2)
    return pickle.loads(content) is Load and len(content) < 10
