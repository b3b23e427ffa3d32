"""Which sources of pressure there are for this process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import attrs

from ..groups import own_group
from .environment import WATCH, open_wish, read_wish
from .group1 import PressureLevelSource
from .psi import CRITICAL, ELEVATED, open_psi, why_not
from .source import Source

_MACHINE: Final = "proc/pressure/memory"


@attrs.frozen(kw_only=True)
class Choice:
    """What was found, and what was not."""

    sources: tuple[Source, ...] = ()
    notes: tuple[str, ...] = ()
    """Why a source is not there, or nobody is to watch; each in words."""
    is_off: bool = False
    """The operator wants nobody to watch."""

    def close(self) -> None:
        """Close every source."""
        for source in self.sources:
            source.close()


def choose_sources(root: Path, environ: Mapping[str, str], *, platform: str = sys.platform) -> Choice:
    """What the service manager says, if it says anything; else this process's own group; else the machine as a whole.

    The pressure of the machine counts waiting in every group, also in those whose limit is their own affair, so it
    comes last.
    """
    if platform == "win32":
        return _windows()
    if not platform.startswith("linux"):
        return Choice(notes=(f"no source is known on {platform}",))
    notes: list[str] = []
    try:
        wish = read_wish(environ)
        if wish is not None and wish.is_off:
            return Choice(notes=(f"{WATCH} is /dev/null: the operator wants nobody to watch",), is_off=True)
        if wish is not None:
            return Choice(sources=(open_wish(wish, root),))
    except (OSError, ValueError) as error:
        notes.append(f"{WATCH}: {error}")
    for openers in (_own2(root), _own1(root), _psi(root / _MACHINE)):
        found = _open_all(openers, notes)
        if found:
            return Choice(sources=found, notes=tuple(notes))
    return Choice(notes=tuple(notes))


def _own2(root: Path) -> list[Callable[[], Source]]:
    group = own_group(root, 2)
    # The top of the hierarchy has no type (https://docs.kernel.org/admin-guide/cgroup-v2.html#core-interface-files).
    # Its pressure, where it is shown, is the machine's; and memory may be counted in a group of version 1.
    if group is None or not all((group.path / name).is_file() for name in ("memory.pressure", "cgroup.type")):
        return []
    return _psi(group.path / "memory.pressure")


def _own1(root: Path) -> list[Callable[[], Source]]:
    group = own_group(root, 1)
    if group is None or not (group.path / "memory.pressure_level").is_file():
        return []
    return [
        partial(PressureLevelSource, group.path, "medium", "elevated"),
        partial(PressureLevelSource, group.path, "critical", "critical"),
    ]


def _psi(path: Path) -> list[Callable[[], Source]]:
    return [partial(open_psi, path, ELEVATED, "elevated"), partial(open_psi, path, CRITICAL, "critical")]


def _open_all(openers: list[Callable[[], Source]], notes: list[str]) -> tuple[Source, ...]:
    """Those that open; why the first of the others does not is noted."""
    found: list[Source] = []
    problems: list[str] = []
    for opener in openers:
        try:
            found.append(opener())
        except OSError as error:
            problems.append(f"{error.filename or _file_of(opener)}: {why_not(error)}")
    notes += problems[:1]
    return tuple(found)


def _file_of(opener: Callable[[], Source]) -> object:
    return opener.args[0] if isinstance(opener, partial) else opener


def _windows() -> Choice:
    from ..windows import LowMemory

    try:
        return Choice(sources=(LowMemory(),))
    except OSError as error:
        return Choice(notes=(str(error),))
