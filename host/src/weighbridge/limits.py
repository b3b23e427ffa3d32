"""Memory limits that the system puts on this process from outside: control groups on Linux, elsewhere none.

A container, a pod and a service of systemd are control groups. A process beyond the limit of its group is slowed down
or killed, whatever its own ceiling says.

- version 2: https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files
- version 1: https://docs.kernel.org/admin-guide/cgroup-v1/memory.html
- both: https://man7.org/linux/man-pages/man7/cgroups.7.html
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final

import attrs

# By the type of the file system: version 2 is "cgroup2", version 1 is "cgroup".
_FILES: Final = {"cgroup2": ("memory.max", "memory.high"), "cgroup": ("memory.limit_in_bytes",)}
# Version 1 also has a file with the lowest limit of a group and of all around it, those among them that no mount shows,
# such as a pod's around its container: https://docs.kernel.org/admin-guide/cgroup-v1/memory.html#stat-file
_SUMMARY: Final = "memory.stat"
_SUMMARY_LINE: Final = b"hierarchical_memory_limit "
_SUMMARY_BYTES: Final = 16 * 1024  # it has about 1 KiB

# Version 1 has no word for "no limit". It shows PAGE_COUNTER_MAX, nearly 2**63, rounded down to pages of any size:
# https://github.com/torvalds/linux/blob/v6.12/include/linux/page_counter.h
_NO_LIMIT: Final = 2**62
_NUMBER: Final = re.compile(rb"\s*([0-9]{1,19})\s*")  # 2**62 has 19 digits
_ESCAPE: Final = re.compile(rb"\\([0-3][0-7]{2})")


@attrs.frozen(kw_only=True)
class OutsideLimit:
    """One limit that holds for this process."""

    nbytes: int
    """Bytes that the group may hold: this process and all others in it together."""
    source: str
    """The file it was read from, such as ``/sys/fs/cgroup/app.slice/memory.max``."""


class OutsideLimits:
    """The limits on this process, read anew each time. Thread-safe, and right in a forked child as well.

    :param root: where the file system begins; another folder than ``/`` is for tests.
    :raises TypeError: if `root` is no path.
    """

    def __init__(self, root: str | os.PathLike[str] = "/") -> None:
        self._root: Final = os.fsdecode(root)
        self._found: tuple[bytes, tuple[str, ...]] = b"", ()  # replaced as a whole, so that no thread sees half of it

    def lowest(self) -> OutsideLimit | None:
        """The lowest of the limits that hold now; those of the groups around this one hold as well.

        A file that cannot be read, or has no number in it, counts for nothing.

        :return: None if there is no limit, or none that can be known.
        """
        limits = [
            OutsideLimit(nbytes=nbytes, source=file) for file in self.files() if (nbytes := _limit_in(file)) is not None
        ]
        return min(limits, key=lambda limit: limit.nbytes, default=None)

    def files(self) -> tuple[str, ...]:
        """Where limits are read from, this group's own files first; a group need not have all of them.

        They are looked for again when the process is in another group than before.
        """
        groups = _read(self._inside("/proc/self/cgroup"))
        known, files = self._found
        if groups != known:
            mounts = _read(self._inside("/proc/self/mountinfo"))
            files = tuple(map(self._inside, find_files(groups, mounts)))
            if mounts:  # it is never empty: it could not be read (no descriptor left, say), and is read next time
                self._found = groups, files
        return files

    def _inside(self, path: str) -> str:
        return os.path.join(self._root, path.lstrip("/"))


@attrs.frozen(kw_only=True)
class Mount:
    """One place where control groups are mounted."""

    kind: str
    """``cgroup2``, or ``cgroup`` for the memory controller of version 1."""
    root: str
    """The group that is seen at the mount point."""
    point: str
    """The folder it is mounted on."""


def find_files(groups: bytes, mounts: bytes) -> Iterator[str]:
    """The files of limits, by the content of ``/proc/self/cgroup`` and ``/proc/self/mountinfo``.

    In a container the own group may lie outside of all that is mounted; then only the mount points are left to look at.
    """
    mounted = tuple(parse_mounts(mounts))
    for kind, group in parse_groups(groups).items():
        ours = [mount for mount in mounted if mount.kind == kind]
        below = [(mount, path) for mount in ours if (path := path_below(mount.root, group)) is not None]
        for mount, path in below or [(mount, ()) for mount in ours]:
            for depth in range(len(path), -1, -1):
                for name in _FILES[kind]:
                    yield os.path.join(mount.point, *path[:depth], name)
            if kind == "cgroup":
                yield os.path.join(mount.point, *path, _SUMMARY)


def parse_groups(text: bytes) -> dict[str, str]:
    """The groups of a process that may limit its memory, by the type of their file system.

    Lines are ``0::/path`` and ``4:cpu,memory:/path``, with nothing escaped:
    https://man7.org/linux/man-pages/man7/cgroups.7.html
    """
    groups = {}
    for line in text.split(b"\n"):
        match line.split(b":", 2):
            case [b"0", b"", path]:
                groups["cgroup2"] = os.fsdecode(path)
            case [_, controllers, path] if b"memory" in controllers.split(b","):
                groups["cgroup"] = os.fsdecode(path)
    return groups


def parse_mounts(text: bytes) -> Iterator[Mount]:
    """The mounts of control groups that may limit memory; of several at one place the last, which hides the others.

    https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
    """
    mounts = {}
    for line in text.split(b"\n"):
        place, _, what = line.partition(b" - ")
        match place.split(b" "), what.split(b" "):
            case [_, _, _, root, point, *_], [kind, *_, options]:
                if kind == b"cgroup2" or (kind == b"cgroup" and b"memory" in options.split(b",")):
                    mounts[point] = Mount(kind=kind.decode(), root=_unescaped(root), point=_unescaped(point))
    yield from mounts.values()


def _unescaped(text: bytes) -> str:
    r"""A path of mountinfo, in which a space is ``\040``."""
    return os.fsdecode(_ESCAPE.sub(lambda found: bytes([int(found[1], 8)]), text))


def path_below(root: str, group: str) -> tuple[str, ...] | None:
    """The way from the group `root` down to `group`; None if it does not lie below.

    >>> path_below("/docker/1f", "/docker/1f/worker"), path_below("/docker/1f", "/"), path_below("/", "/../2e")
    (('worker',), None, None)
    """
    top, path = _parts(root), _parts(group)
    rest = path[len(top) :]
    return rest if path[: len(top)] == top and ".." not in rest else None


def _parts(path: str) -> tuple[str, ...]:
    return tuple(filter(None, path.split("/")))


def parse_limit(text: bytes) -> int | None:
    """Bytes, from what a file of limits says; None for ``max``, a number from 2**62 up, and what is no number."""
    found = _NUMBER.fullmatch(text)
    nbytes = int(found[1]) if found else _NO_LIMIT
    return nbytes if nbytes < _NO_LIMIT else None


def parse_summary(text: bytes) -> int | None:
    r"""Bytes of the limit of a whole hierarchy, from a ``memory.stat`` of version 1; None if it has no such line.

    >>> parse_summary(b"cache 12\nhierarchical_memory_limit 4096\ntotal_cache 12\n")
    4096
    """
    for line in text.split(b"\n"):
        if line.startswith(_SUMMARY_LINE):
            return parse_limit(line.removeprefix(_SUMMARY_LINE))
    return None


def _limit_in(file: str) -> int | None:
    if os.path.basename(file) == _SUMMARY:
        return parse_summary(_read(file, _SUMMARY_BYTES))
    return parse_limit(_read(file, 64))


def _read(file: str, nbytes: int = -1) -> bytes:
    """What a file says; nothing if it cannot be read, because a group may be removed at any time."""
    try:
        with open(file, "rb", buffering=0) as opened:
            return opened.read(nbytes) or b""
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return b""
