"""Which modules of a kernel have to be put in, and in which order."""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

DEPENDS: Final = b"\0depends="


def content(path: Path) -> bytes:
    """A module, without the compression that newer Debian kernels have."""
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def dependencies(module: bytes) -> list[str]:
    """Names of the modules that come before, from the section ``.modinfo``, in which fields end with a zero.

    https://www.kernel.org/doc/html/latest/kbuild/modules.html
    """
    _, found, rest = (b"\0" + module).partition(DEPENDS)
    names = rest.partition(b"\0")[0].decode("ascii") if found else ""
    return [name.replace("-", "_") for name in names.split(",") if name]


def in_order(folder: Path, wanted: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Each wanted module that the kernel has as a file, behind those it depends on. What is built in has no file."""
    files = {file.name.partition(".")[0].replace("-", "_"): file for file in folder.rglob("*.ko*")}
    done: set[str] = set()

    def walk(names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        for name in names:
            if name in files and name not in done:
                done.add(name)
                module = content(files[name])
                yield from walk(dependencies(module))
                yield name, module

    yield from walk(wanted)
