"""The modules that are used, each of another origin: by hand, clang, Rust, emscripten, and clang with a libc."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import attrs

from .packages import CACHE, Package, member


def _as_it_is(content: bytes) -> bytes:
    return content


def _in_base64(script: bytes) -> bytes:
    """The module that a script carries in a string: base64 of a module begins with these letters, and nothing else."""
    found = re.search(rb'"(AGFzbQEAAA[A-Za-z0-9+/=]+)"', script)
    assert found is not None, "the script carries no module"
    return base64.b64decode(found[1])


@attrs.frozen
class Module:
    """A module in a package.

    :param path: of the file in the package.
    :param unpack: how the module lies in that file.
    """

    package: Package
    path: str
    unpack: Callable[[bytes], bytes] = _as_it_is

    def read(self, cache: Path = CACHE) -> bytes:
        """Its bytes, once its package was fetched."""
        return self.unpack(member(self.package, self.path, cache))


XXHASH: Final = Module(
    Package(
        "xxhash-wasm",
        "1.1.0",
        "sha512-147y/6YNh+tlp6nd/2pWq38i9h6mz/EuQ6njIrmW8D1BS5nCqs0P6DG+m6zTGnNz5I+uhZ0SHxBs9BsPrwcKDA==",
    ),
    "workerd/xxhash.wasm",
)
"""Non-cryptographic hashes, written as WebAssembly text. MIT: https://github.com/jungomi/xxhash-wasm"""

SHA3: Final = Module(
    Package(
        "hash-wasm",
        "4.13.0",
        "sha512-GrWl7wsV46fKIXQZB5ebskLZLAmKL6d9RS0fspCxDeQyjoNu1AfTJTMLPOJyfzaQm0ldFiwFN21/w+sE/kgEFQ==",
    ),
    "dist/sha3.umd.min.js",
    _in_base64,
)
"""SHA-3 in C, without a libc. MIT: https://github.com/Daninet/hash-wasm"""

LZ4: Final = Module(
    Package(
        "lz4-wasm",
        "0.9.2",
        "sha512-8Y/OvG/nTQNWR242NhLmjI7VzLMRKFaxg/+Pxi/vkczgFdrS4qiJ8l6n30XyNJyc0TB5C66Ncdjq345Kx5XsvQ==",
    ),
    "lz4_wasm_bg.wasm",
)
"""LZ4 in Rust, with wasm-bindgen. MIT: https://github.com/PSeitz/lz4_flex"""

SQLITE: Final = Module(
    Package(
        "@sqlite.org/sqlite-wasm",
        "3.41.2",
        "sha512-elKOYvLMzDDvKH28TF++iGPfqmsBBZG8iSCNo8lBSboSLCe+PBn3zwPO5NJRg9vojjMXVoRiifmBZ0IBdVBKjg==",
    ),
    "sqlite-wasm/jswasm/sqlite3.wasm",
)
"""SQLite, by emscripten, with an imported memory. Apache 2.0: https://github.com/sqlite/sqlite-wasm"""

LODEPNG: Final = Module(
    Package(
        "@cwasm/lodepng",
        "0.1.9",
        "sha512-vb2H7/jTxnqJi7hHiEgtFm3smIqVpeY417vN+8cwsq3iTNrHzwnMzFXbeCf2H9Dl13Vh64qgUUcC2mxf6TPODA==",
    ),
    "lodepng.wasm",
)
"""PNG in C, with a libc for WASI, whose allocator it uses. MIT: https://github.com/LinusU/cwasm-lodepng"""

ALL: Final = (XXHASH, SHA3, LZ4, SQLITE, LODEPNG)
