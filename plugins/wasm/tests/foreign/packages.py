"""Packages of npm, each fetched once by name, version and checksum, and kept as the tarball that it came as."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import attrs

from . import npm
from .npm import Say

CACHE: Final = Path(__file__).parents[4] / ".cache" / "npm"


class WrongChecksum(Exception):
    """What was fetched under a name and a version is not what was fetched when the checksum was written down."""


@attrs.frozen
class Package:
    """One version of a package.

    :param integrity: the checksum of its tarball, as npm's lock files have it: the hash's name, a hyphen, the hash in
        base64 (https://www.w3.org/TR/SRI/#integrity-metadata-description).
    """

    name: str
    version: str
    integrity: str

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def file_name(self) -> str:
        """What npm calls its tarball."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"

    def is_intact(self, tarball: Path) -> bool:
        """Whether a file is there and is this package."""
        return tarball.is_file() and integrity(tarball.read_bytes(), self.integrity.partition("-")[0]) == self.integrity


def integrity(content: bytes, algorithm: str = "sha512") -> str:
    """The checksum of a tarball in the words of npm."""
    return f"{algorithm}-{base64.b64encode(hashlib.new(algorithm, content).digest()).decode('ascii')}"


def fetch(packages: Iterable[Package], say: Say, cache: Path = CACHE) -> None:
    """Put into `cache` what is not there yet, or is damaged; with all of it there, nothing is asked of anybody.

    :raises NpmFailed: a package cannot be had.
    :raises WrongChecksum: a package is another one than before.
    """
    wanted = list(packages)
    if _missing(wanted, cache):
        with alone(cache, say):
            # Another process may have fetched them while this one waited.
            if missing := _missing(wanted, cache):
                _fetch(missing, say, cache)


def member(package: Package, path: str, cache: Path = CACHE) -> bytes:
    """One file out of a package that was fetched."""
    with tarfile.open(cache / package.file_name) as tarball:
        file = tarball.extractfile(f"package/{path}")
        assert file is not None, f"{path} of {package} is no file"
        return file.read()


def _missing(packages: Iterable[Package], cache: Path) -> list[Package]:
    return [package for package in packages if not package.is_intact(cache / package.file_name)]


def _fetch(packages: Iterable[Package], say: Say, cache: Path) -> None:
    """A tarball has its name only once it is complete and is what it should be."""
    with npm.program(say) as command:
        for package in packages:
            say(f"fetching {package}")
            with TemporaryDirectory(dir=cache, prefix="unfinished-") as scratch:
                tarball = npm.pack(command, str(package), Path(scratch))
                if not package.is_intact(tarball):
                    found = integrity(tarball.read_bytes())
                    raise WrongChecksum(f"{package} has the checksum {found}, and {package.integrity} was wanted")
                tarball.replace(cache / package.file_name)


@contextmanager
def alone(cache: Path, say: Say) -> Iterator[None]:
    """Nobody else fetches into this folder meanwhile. The lock goes with the process that holds it."""
    cache.mkdir(parents=True, exist_ok=True)
    # The folder ignores itself, as pytest's own cache does.
    (cache / ".gitignore").write_text("*\n", encoding="ascii")
    with open(cache / "lock", "w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another run fetches into {cache}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
