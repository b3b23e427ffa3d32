"""A file inside a package, read without importing the package.

``importlib.resources`` imports the package that it looks into, and ``importlib.util.find_spec`` imports the parents of
a sub-package: https://docs.python.org/3/library/importlib.html#importlib.util.find_spec. So the way down from the
top-level package is walked by hand here.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec

from .entry_points import EntryPoint
from .metadata import read

# zipimport answers with the number 0 for a file that is not in the archive.
_ABSENT = (0, None, errno.ENOENT, errno.ENOTDIR)


class Lookup:
    """The search for one file of one package; ``tried`` says where it was looked for."""

    def __init__(self, package: str, file: str, path: Sequence[str] | None) -> None:
        self._packages = package.split(".")
        self._file = file
        self._path = path
        self.tried: list[str] = []

    def read(self, point: EntryPoint) -> bytes | None:
        """Return the content of the file; None if it is nowhere.

        First beside the metadata that names it, then where that distribution's own .pth file points to, and only then
        wherever the package would be imported from: another distribution may have a package of the same name.

        :raises OSError: if it is there and cannot be read.
        """
        for attempt in self._attempts(point):
            try:
                return attempt()
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
            except ImportError:  # The site is neither a folder nor a zip file.
                continue
        return None

    def _attempts(self, point: EntryPoint) -> Iterator[Callable[[], bytes]]:
        if point.site is not None:
            yield self._beside(point.site)
        for folder in _own_folders(point):
            yield self._in(read, os.path.join(folder, *self._packages))
        for spec, rest in self._specs():
            loaded = getattr(spec.loader, "get_data", read)
            for folder in spec.submodule_search_locations or ():
                yield self._in(loaded, os.path.join(folder, *rest))

    def _beside(self, site: str) -> Callable[[], bytes]:
        folder = os.path.join(site, *self._packages)
        if not os.path.isfile(site):
            return self._in(read, folder)

        def unzip(file: str) -> bytes:
            from zipimport import zipimporter

            return zipimporter(site).get_data(file)

        return self._in(unzip, folder)

    def _in(self, reader: Callable[[str], bytes], folder: str) -> Callable[[], bytes]:
        self.tried.append(folder)
        return lambda: reader(os.path.join(folder, *self._file.split("/")))

    def _specs(self) -> Iterator[tuple[ModuleSpec, list[str]]]:
        """Yield the specs of the package or of one of its parents, each with the names that lead on from there.

        An editable install may map a sub-package of a namespace and not the namespace. Its finder goes by the name. The
        others go by the path, and must get an empty one: with None, they would take the last part for a top-level name.
        """
        for depth in range(1, len(self._packages) + 1):
            name, rest = ".".join(self._packages[:depth]), self._packages[depth:]
            path = self._path if depth == 1 else ()
            yield from ((spec, rest) for spec in self._found(name, path))

    def _found(self, name: str, path: Sequence[str] | None) -> Iterator[ModuleSpec]:
        for finder in list(sys.meta_path):
            try:
                spec = finder.find_spec(name, None if path is None else list(path))
            except Exception as error:  # A stranger's code: the finders after it may know the package.
                self.tried.append(f"{finder!r}, which raised {type(error).__name__}: {error}")
                continue
            if spec is not None:
                yield spec


def _own_folders(point: EntryPoint) -> Iterator[str]:
    """Yield the folders that the .pth files of the entry point's distribution add: an editable install."""
    if point.site is None or point.location is None:
        return
    for name in _own_pth_files(point.location):
        for line in _lines(os.path.join(point.site, name)):
            if line.strip() and not line.startswith(("#", "import ", "import\t")):
                yield os.path.join(point.site, line.rstrip())


def _own_pth_files(location: str) -> Iterator[str]:
    # https://packaging.python.org/en/latest/specifications/recording-installed-packages/#the-record-file
    names = (line.partition(",")[0] for line in _lines(os.path.join(location, "RECORD")))
    return (name for name in names if name.endswith(".pth"))


def _lines(file: str) -> list[str]:
    try:
        return read(file).decode(errors="surrogateescape").splitlines()
    except OSError:
        return []
