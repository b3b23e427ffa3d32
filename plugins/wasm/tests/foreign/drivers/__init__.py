"""One file for each module: its functions called as the glue in its package calls them, and what must come out."""

from __future__ import annotations

from typing import Final

from .driver import Driver
from .lodepng import Lodepng
from .lz4 import Lz4
from .sha3 import Sha3
from .sqlite import Sqlite
from .xxhash import Xxhash

ALL: Final[tuple[Driver, ...]] = (Xxhash(), Sha3(), Lz4(), Sqlite(), Lodepng())
