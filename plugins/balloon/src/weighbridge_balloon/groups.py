"""The control groups of this process that count memory: https://man7.org/linux/man-pages/man7/cgroups.7.html"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import attrs

from .files import read_bytes, read_text

_OCTAL: Final = 3
_DIGITS: Final = 19
_SHARE: Final = 16


@attrs.frozen
class Group:
    """A control group."""

    path: Path
    """Its folder, as it is mounted."""
    version: int
    """1 or 2."""


def own_group(root: Path, version: int) -> Group | None:
    """The group that counts this process's memory in that version; None if there is none, or no mount shows it.

    The group at the top of everything has no file of pressure and is no group in this sense; where a container sees its
    own group as the top, that file is there.
    """
    path = path_in(read_bytes(root / "proc/self/cgroup") or b"", version)
    if path is None:
        return None
    for inside, mount in mounts_of(read_bytes(root / "proc/self/mountinfo") or b"", version):
        rest = path_below(path, inside)
        if rest is not None:
            folder = root / mount.lstrip("/") / rest
            return Group(folder, version) if folder.is_dir() else None
    return None


def missing_in(group: Group) -> int:
    """Bytes that this group, and those around it, lack to have a sixteenth of their limits free; 0 without limits.

    Of what is used, files that were read and not touched since do not count: the kernel lets go of them first, without
    any harm. https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files
    """
    missing = 0
    folder = group.path
    while (used := _number(folder / "memory.current")) is not None:
        limits = [limit for name in ("memory.max", "memory.high") if (limit := _number(folder / name)) is not None]
        if limits:
            missing = max(missing, min(limits) // _SHARE - (min(limits) - used + _inactive_file(folder)))
        folder = folder.parent
    return missing


def path_in(text: bytes, version: int) -> str | None:
    """The group's path, as /proc/self/cgroup has it: ``0::/path`` in version 2, ``4:memory:/path`` in version 1."""
    for line in text.splitlines():
        number, _, rest = line.partition(b":")
        controllers, _, path = rest.partition(b":")
        is_it = (number == b"0" and not controllers) if version == 2 else b"memory" in controllers.split(b",")
        if is_it and path.startswith(b"/"):
            return path.decode("utf-8", "surrogateescape")
    return None


def mounts_of(text: bytes, version: int) -> list[tuple[str, str]]:
    """What of the hierarchy is mounted, and where: fields 4 and 5 of /proc/self/mountinfo, the type after a hyphen."""
    found = []
    for line in text.splitlines():
        head, _, tail = line.partition(b" - ")
        fields, kinds = head.split(b" "), tail.split(b" ")
        if len(fields) < 5 or len(kinds) < 3:
            continue
        is_it = kinds[0] == b"cgroup2" if version == 2 else kinds[0] == b"cgroup" and b"memory" in kinds[2].split(b",")
        if is_it:
            found.append((_plain(fields[3]), _plain(fields[4])))
    return found


def _plain(field: bytes) -> str:
    """A field without its escapes: a backslash and three octal digits stand for a space, a tab, a newline or itself."""
    first, *rest = field.split(b"\\")
    parts = [first]
    for part in rest:
        digits = part[:_OCTAL]
        is_escape = len(digits) == _OCTAL and not digits.strip(b"01234567") and digits[:1] < b"4"
        parts.append(bytes([int(digits, 8)]) + part[_OCTAL:] if is_escape else b"\\" + part)
    return b"".join(parts).decode("utf-8", "surrogateescape")


def path_below(path: str, inside: str) -> str | None:
    """`path` seen from a mount that shows `inside`; None if it is not below that, or beside it (``/../other``)."""
    if ".." in path.split("/"):
        return None
    inside = inside.rstrip("/")
    if path == inside or path.startswith(f"{inside}/"):
        return path[len(inside) :].lstrip("/")
    return None


def _number(path: Path) -> int | None:
    text = read_text(path)
    return int(text) if text and text.isdigit() and len(text) <= _DIGITS else None


def _inactive_file(folder: Path) -> int:
    for line in (read_bytes(folder / "memory.stat") or b"").splitlines():
        name, _, number = line.partition(b" ")
        if name == b"inactive_file" and number.isdigit() and len(number) <= _DIGITS:
            return int(number)
    return 0
