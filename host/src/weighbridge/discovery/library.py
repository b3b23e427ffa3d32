"""What the direct scan leaves to importlib-metadata: zip files on the path, and the finders of strangers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import importlib_metadata

from .metadata import normalize, parse, report

if TYPE_CHECKING:
    from weighbridge_hookspecs.errors import MetadataError


class Borrowed:
    """A distribution that the library found, with the same methods as a folder that the direct scan found.

    Behind it may be a stranger's code, which may raise anything; whatever it is, the others are still read.
    """

    __slots__ = ("_dist", "key", "location", "site")

    def __init__(self, dist: importlib_metadata.IDistribution, site: str | None, key: str) -> None:
        self._dist = dist
        self.site = site
        self.location = None
        self.key: str | None = key

    def mentions(self, groups: Iterable[bytes], problems: list[MetadataError]) -> bool:
        """Return whether there may be entry points of these groups; here it is not known before they are parsed."""
        return True

    def is_valid(self) -> bool:
        """Return whether there is metadata beside the entry points."""
        # New in importlib-metadata 10, private, and asked by the library itself in the same place.
        has_metadata = getattr(self._dist, "_has_metadata", None)
        try:
            return bool(
                has_metadata() if has_metadata else any(map(self._dist.read_text, ("METADATA", "PKG-INFO", "")))
            )
        except Exception:
            return False

    def pairs(self, groups: frozenset[str], problems: list[MetadataError]) -> Iterator[tuple[str, str, str]]:
        """Yield group, name and value of each entry point of these groups."""
        try:
            if isinstance(self._dist, importlib_metadata.PathDistribution):
                text = self._dist.read_text("entry_points.txt") or ""
                return parse(text, groups, str(self.key), f"entry_points.txt in {self._dist}", problems)
            points = [point for point in self._dist.entry_points if point.group in groups]
            return iter([(point.group, point.name, point.value) for point in points])
        except Exception as error:
            report(problems, str(self.key), f"entry_points.txt in {self._dist} cannot be read ({_in_words(error)})")
            return iter(())

    def identity(self, problems: list[MetadataError]) -> tuple[str, str] | None:
        """Return name and version, as the metadata has them."""
        try:
            return self._dist.name, self._dist.version
        except Exception as error:
            report(problems, str(self.key), f"METADATA in {self._dist} has no Name or no Version ({_in_words(error)})")
            return (self.key, "") if self.key else None


def everything(path: Sequence[str] | None, problems: list[MetadataError]) -> list[Borrowed] | None:
    """Return every distribution of every finder, in order; None if a finder cannot be asked."""
    wanted: dict[str, Any] = {} if path is None else {"path": list(path)}
    try:
        dists = list(importlib_metadata.distributions(**wanted))
    except Exception as error:
        advice = "It is left out; find the distribution that put it on sys.meta_path, and update or remove that"
        report(problems, "a finder on sys.meta_path", f"find_distributions failed ({_in_words(error)})", advice)
        return None
    return list(_borrow(dists, None, problems))


def in_zip(site: str, problems: list[MetadataError]) -> list[Borrowed]:
    """Return the distributions in a zip file; a file that is no zip file has none."""
    return list(_borrow(importlib_metadata.distributions(path=[site]), site, problems))


def _borrow(
    dists: Iterable[importlib_metadata.IDistribution], site: str | None, problems: list[MetadataError]
) -> Iterator[Borrowed]:
    for dist in dists:
        try:
            # Private, but it is what the library compares; a stranger's distribution need not have it.
            key = getattr(dist, "_normalized_name", None) or normalize(dist.name)
        except Exception as error:
            report(problems, str(dist), f"there is no Name in its METADATA ({_in_words(error)})")
        else:
            yield Borrowed(dist, site or _folder_of(dist), key)


def _folder_of(dist: importlib_metadata.IDistribution) -> str | None:
    try:
        folder = dist.locate_file("")
    except Exception:
        return None
    return os.fspath(folder) if isinstance(folder, os.PathLike) else None


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
