"""The Python that runs this, as files: itself, its standard library, and the shared libraries that they need."""

from __future__ import annotations

import compileall
import py_compile
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Final

LEFT_OUT: Final = frozenset(
    ("ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages", "dist-packages", "test", "tkinter", "turtledemo")
)
LIBRARY: Final = re.compile(r"(?:=> )?(/\S+) \(0x")


def executable() -> Path:
    """Where Python itself is, and not a virtual environment's link to it."""
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()


def standard_library() -> Path:
    """The folder of the standard library."""
    return Path(sysconfig.get_path("stdlib"))


def library_files() -> Iterator[Path]:
    """What Python may import from the standard library."""
    top = standard_library()
    for file in sorted(top.rglob("*")):
        inner = file.relative_to(top).parts
        if file.suffix in (".py", ".so") and not LEFT_OUT.intersection(inner) and not inner[0].startswith("config-"):
            yield file


def shared_libraries(files: Iterable[Path]) -> set[Path]:
    """What the loader maps for these programs and modules, itself included. One that it cannot find is left out."""
    done = subprocess.run(["ldd", *map(str, files)], capture_output=True, text=True, check=False)
    return {Path(found) for found in LIBRARY.findall(done.stdout)}


def extensions(folder: Path) -> list[Path]:
    """The compiled modules below a folder."""
    return sorted(file for file in folder.rglob("*.so") if file.name.endswith(tuple(EXTENSION_SUFFIXES)))


def compile_all(folder: Path) -> None:
    """Compile what is below a folder, never to be compared with its source: dates do not survive the archive."""
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(folder, quiet=2, force=True, workers=0, invalidation_mode=mode)
