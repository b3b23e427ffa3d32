"""Leaves the directory of the archive that a part of it was imported from."""

from __future__ import annotations

import importlib
import tempfile
import zipfile
import zipimport
from pathlib import Path

TIE = ("path_importer_cache", "zipimport cache")
BYTES_ONLY = True
archive = str(Path(tempfile.mkdtemp()) / "part.zip")
with zipfile.ZipFile(archive, "w") as file:
    file.writestr("part.py", "def weigh():\n    return __name__\n")
__path__ = [*globals()["__path__"], archive]
part = importlib.import_module(f"{__name__}.part")


def intact() -> object:
    return [zipimport.zipimporter(archive).find_spec("part") is not None, part.weigh()]
