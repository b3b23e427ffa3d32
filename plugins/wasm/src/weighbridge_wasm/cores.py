"""How many cores are ours: the processors that we may run on, and the quotas of control groups around us.

- affinity: https://man7.org/linux/man-pages/man2/sched_setaffinity.2.html
- quotas, version 2: ``cpu.max`` in https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files
- quotas, version 1: ``cpu.cfs_quota_us`` in https://docs.kernel.org/scheduler/sched-bwc.html
- what groups used: ``cpu.stat`` in the former, and https://docs.kernel.org/admin-guide/cgroup-v1/cpuacct.html
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Iterator
from typing import Final

import attrs

_MOST: Final = 1 << 20  # far more than any of these files has
_DIGITS: Final = 19
_ESCAPE: Final = re.compile(r"\\([0-3][0-7]{2})")
_MICRO, _NANO = 1e-6, 1e-9


@attrs.frozen(kw_only=True)
class Quota:
    """CPU time that a control group around this process may use, all processes in it together."""

    cores: float
    """Seconds of CPU time per second."""
    source: str
    """The file that says so."""
    usage: str | None = None
    """The file that says how much was used; None if there is none."""

    def used_seconds(self) -> float | None:
        """CPU time that the group used since it was made; None if that is not known."""
        return None if self.usage is None else parse_usage(_read(self.usage))


@attrs.frozen(kw_only=True)
class Cores:
    """The cores that are ours, as far as nobody else uses them."""

    count: int
    """Whole cores, from 1 up: a part of one counts as one."""
    share: float
    """The same before it was rounded up; above 0."""
    source: str
    """How it is known: ``"affinity"``, ``"processors"``, or the file of the quota that is lowest."""
    cpus: frozenset[int] | None = None
    """The processors that we may run on; None if that is not known."""
    quotas: tuple[Quota, ...] = ()
    """The quotas that hold, whether they are lower or not."""

    @property
    def processors(self) -> int:
        """How many processors we may run on, quotas aside."""
        return (os.cpu_count() or 1) if self.cpus is None else len(self.cpus)


def find_cores(root: str | os.PathLike[str] = "/", *, cpus: Collection[int] | None = None) -> Cores:
    """What is ours now. It never raises for what it finds.

    :param root: where the file system begins; another folder than ``/`` is for tests.
    :param cpus: the processors that we may run on; those of the operating system if it is None.
    """
    allowed = _affinity() if cpus is None else frozenset(cpus)
    quotas = tuple(find_quotas(root))
    lowest = min(quotas, key=lambda quota: quota.cores, default=None)
    processors = float(len(allowed) if allowed else os.cpu_count() or 1)
    share, source = processors, "affinity" if allowed else "processors"
    if lowest is not None and lowest.cores < share:
        share, source = lowest.cores, lowest.source
    return Cores(count=max(1, math.ceil(share)), share=share, source=source, cpus=allowed or None, quotas=quotas)


def find_quotas(root: str | os.PathLike[str] = "/") -> Iterator[Quota]:
    """The quotas of this process's groups and of all those around them that are seen, the innermost first."""
    top = os.fsdecode(root)
    groups = parse_groups(_read(_inside(top, "/proc/self/cgroup")))
    mounts = parse_mounts(_read(_inside(top, "/proc/self/mountinfo")))
    for path in folders_of("", groups, mounts):
        folder = _inside(top, path)
        yield from _quota_of_2(folder)
    accounts = tuple(folders_of("cpuacct", groups, mounts)) if groups.get("cpu") == groups.get("cpuacct") else ()
    for depth, path in enumerate(folders_of("cpu", groups, mounts)):
        beside = [_inside(top, account) for account in (path, *accounts[depth : depth + 1])]
        yield from _quota_of_1(_inside(top, path), beside)


def _quota_of_2(folder: str) -> Iterator[Quota]:
    source, usage = os.path.join(folder, "cpu.max"), os.path.join(folder, "cpu.stat")
    cores = parse_max(_read(source))
    if cores is not None:
        yield Quota(cores=cores, source=source, usage=usage if os.path.exists(usage) else None)


def _quota_of_1(folder: str, accounts: list[str]) -> Iterator[Quota]:
    source = os.path.join(folder, "cpu.cfs_quota_us")
    cores = _ratio(_read(source), _read(os.path.join(folder, "cpu.cfs_period_us")))
    if cores is not None:
        files = (os.path.join(account, "cpuacct.usage") for account in accounts)
        yield Quota(cores=cores, source=source, usage=next(filter(os.path.exists, files), None))


def parse_max(text: bytes) -> float | None:
    r"""Cores, from a ``cpu.max``: quota and period in microseconds; None for no limit, and for what is no such text.

    >>> parse_max(b"150000 100000\n"), parse_max(b"max 100000\n")
    (1.5, None)
    """
    fields = text.split()
    return _ratio(*fields) if len(fields) == 2 else None


def _ratio(quota: bytes, period: bytes) -> float | None:
    """Cores from two numbers above 0; version 1 has -1 where there is no limit."""
    numerator, denominator = _number(quota), _number(period)
    return numerator / denominator if numerator and denominator else None


def parse_usage(text: bytes) -> float | None:
    r"""Seconds, from a ``cpu.stat`` of version 2 or a ``cpuacct.usage`` of version 1; None if it is neither.

    >>> parse_usage(b"usage_usec 2500000\nuser_usec 2000000\n"), parse_usage(b"2500000000\n")
    (2.5, 2.5)
    """
    for line in text.splitlines():
        name, _, number = line.partition(b" ")
        if name == b"usage_usec" and (micros := _number(number)) is not None:
            return micros * _MICRO
    nanos = _number(text)
    return None if nanos is None else nanos * _NANO


def parse_groups(text: bytes) -> dict[str, str]:
    r"""The groups of a process by controller, ``""`` being version 2: https://man7.org/linux/man-pages/man7/cgroups.7.html

    >>> parse_groups(b"4:cpu,cpuacct:/app\n0::/user.slice\n")
    {'cpu': '/app', 'cpuacct': '/app', '': '/user.slice'}
    """
    groups = {}
    for line in os.fsdecode(text).split("\n"):
        controllers, _, path = line.partition(":")[2].partition(":")
        if path.startswith("/"):
            groups.update(dict.fromkeys(controllers.split(","), path))
    return groups


@attrs.frozen
class Mount:
    """One place where control groups are mounted."""

    controllers: frozenset[str]
    """Those of version 1, among other options; ``""`` alone is version 2."""
    root: str
    """The group that is seen at the mount point."""
    point: str
    """The folder that it is mounted on."""


def parse_mounts(text: bytes) -> tuple[Mount, ...]:
    """The mounts of control groups; of several at one place the last, which hides the others.

    https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
    """
    mounts = {}
    for line in os.fsdecode(text).split("\n"):
        head, _, tail = line.partition(" - ")
        place, kind = head.split(" "), tail.split(" ")
        if len(place) > 4 and len(kind) > 2 and kind[0] in ("cgroup", "cgroup2"):
            controllers = frozenset([""] if kind[0] == "cgroup2" else kind[2].split(","))
            mounts[place[4]] = Mount(controllers, _plain(place[3]), _plain(place[4]))
    return tuple(mounts.values())


def folders_of(controller: str, groups: dict[str, str], mounts: tuple[Mount, ...]) -> Iterator[str]:
    """The folders of a process's group and of those around it, the innermost first.

    In a container its group may lie outside of all that is mounted; then only the mount points are left to look at.
    """
    group = groups.get(controller)
    ours = [mount for mount in mounts if controller in mount.controllers] if group is not None else []
    below = [(mount, path) for mount in ours if (path := _path_below(mount.root, group or "/")) is not None]
    for mount, path in below or [(mount, ()) for mount in ours]:
        for depth in range(len(path), -1, -1):
            yield os.path.join(mount.point, *path[:depth])


def _path_below(root: str, group: str) -> tuple[str, ...] | None:
    """The way from the group `root` down to `group`; None if it is not below it."""
    top, path = _parts(root), _parts(group)
    rest = path[len(top) :]
    return rest if path[: len(top)] == top and ".." not in rest else None


def _parts(path: str) -> tuple[str, ...]:
    return tuple(filter(None, path.split("/")))


def _plain(field: str) -> str:
    r"""A path of mountinfo, in which a space is ``\040``."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), field)


def _number(text: bytes) -> int | None:
    digits = text.strip()
    return int(digits) if digits.isdigit() and len(digits) <= _DIGITS else None


def _affinity() -> frozenset[int]:
    try:
        return frozenset(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # there is no such call outside of Linux
        return frozenset()


def _inside(root: str, path: str) -> str:
    return os.path.join(root, path.lstrip("/"))


def _read(file: str) -> bytes:
    """What a file says; nothing if it cannot be read, because a group may be removed at any time."""
    try:
        with open(file, "rb", buffering=0) as opened:
            return opened.read(_MOST) or b""
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return b""
