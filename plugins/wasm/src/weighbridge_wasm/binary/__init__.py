"""WebAssembly binaries: what has to be known of a module in order to run it, and rewriting it to reach all its state.

This knows bytes, and nothing of the engine that runs them.
"""

from __future__ import annotations

from .expose import Exposed, expose
from .facts import FunctionImport, Global, GlobalImport, Memory, ModuleFacts, OtherImport, Table, read
from .segments import DataSegment
from .types import PAGE_BYTES, FunctionType

__all__ = [
    "PAGE_BYTES",
    "DataSegment",
    "Exposed",
    "FunctionImport",
    "FunctionType",
    "Global",
    "GlobalImport",
    "Memory",
    "ModuleFacts",
    "OtherImport",
    "Table",
    "expose",
    "read",
]
