"""Candidates: the entry points of a group, each with its manifest, nothing imported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import attrs
from weighbridge_hookspecs.errors import DiscoveryError, DuplicateName, ManifestError, MetadataError
from weighbridge_hookspecs.markers import GROUP, MANIFEST_GROUP
from weighbridge_hookspecs.records import Candidate, Manifest

from .entry_points import EntryPoint, scan
from .manifests import read_manifest

_Home: TypeAlias = tuple[str | None, str | None, str]
"""What tells distributions apart, also those that share a name."""


@attrs.frozen(kw_only=True)
class Discovery:
    """What is installed, and what is wrong with the rest."""

    candidates: tuple[Candidate, ...]
    """Sorted by name."""
    problems: tuple[DiscoveryError, ...] = ()


def discover(group: str = GROUP, path: Sequence[str] | None = None) -> Discovery:
    """Find the plugins of a group and read their manifests; nothing of them is imported.

    :param group: the entry-point group, which may be a host application's own.
    :param path: folders and zip files to search instead of ``sys.path``.
    """
    broken: list[MetadataError] = []
    points = scan((group, MANIFEST_GROUP), path, problems=broken)
    named = _by_name(point for point in points if point.group == group)
    manifests = _manifests(point for point in points if point.group == MANIFEST_GROUP)
    candidates: list[Candidate] = []
    problems: list[DiscoveryError] = [*broken]
    for name in sorted(named):
        try:
            point = _only(named[name])
            candidates.append(_candidate(point, _read(manifests.get((_home(point), name), ()), path)))
        except DiscoveryError as error:
            problems.append(_alone(error))
    return Discovery(candidates=tuple(candidates), problems=tuple(problems))


def _by_name(points: Iterable[EntryPoint]) -> dict[str, list[EntryPoint]]:
    named: dict[str, list[EntryPoint]] = {}
    for point in points:
        same = named.setdefault(point.name, [])
        if point not in same:
            same.append(point)
    return named


def _home(point: EntryPoint) -> _Home:
    return point.site, point.location, point.distribution


def _manifests(points: Iterable[EntryPoint]) -> dict[tuple[_Home, str], list[EntryPoint]]:
    named: dict[tuple[_Home, str], list[EntryPoint]] = {}
    for name, same in _by_name(points).items():
        for point in same:
            named.setdefault((_home(point), name), []).append(point)
    return named


def _only(points: Sequence[EntryPoint]) -> EntryPoint:
    """Return the one entry point of a name; two that differ are both refused, since either could be the wrong one."""
    if len(points) == 1:
        return points[0]
    name, group = points[0].name, points[0].group
    owners = list(dict.fromkeys(f"{point.distribution} {point.version}".rstrip() for point in points))
    values = " and ".join(repr(point.value) for point in points)
    message = f"{' and '.join(owners)} offer it in the group {group!r}, as {values}; neither is taken"
    advice = f"Uninstall {' or '.join(dict.fromkeys(point.distribution for point in points))}"
    if len({_home(point) for point in points}) == 1:
        message = f"{owners[0]} offers it more than once in the group {group!r}, as {values}; none is taken"
        advice = f"Rename all but one of them in the entry points of {points[0].distribution}"
    raise DuplicateName(message, plugin=name, step="discover", advice=advice)


def _read(points: Sequence[EntryPoint], path: Sequence[str] | None) -> Manifest | None:
    if len(points) > 1:
        values = " and ".join(repr(point.value) for point in points)
        problem = f"{points[0].distribution} names more than one manifest for it: {values}"
        raise ManifestError(
            problem, plugin=points[0].name, problems=(problem,), advice="Keep one of these entry points"
        )
    return read_manifest(points[0], path) if points else None


def _candidate(point: EntryPoint, manifest: Manifest | None) -> Candidate:
    return Candidate(
        name=point.name,
        group=point.group,
        value=point.value,
        distribution=point.distribution,
        version=point.version,
        manifest=manifest,
    )


def _alone(error: DiscoveryError) -> DiscoveryError:
    """Take from a stored error what would keep frames alive: https://docs.python.org/3/reference/datamodel.html#frame.clear."""
    error.__context__ = error.__cause__ = error.__traceback__ = None
    return error
