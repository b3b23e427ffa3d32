"""WASM: WebAssembly modules, each call isolated, at the speed of a warm instance."""

from __future__ import annotations

__version__ = "0.1.0"
