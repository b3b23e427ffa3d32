"""Small files of the kernel, read whole; a file that cannot be read is None."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

# Far more than any of these files has; a tree that is not the kernel's may hold anything.
_MOST: Final = 1 << 20


def read_bytes(path: Path) -> bytes | None:
    """The first MiB of `path`; None if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_MOST)
    except (OSError, ValueError):
        return None


def read_text(path: Path) -> str | None:
    """`path` as text, without white space and NULs at its ends; None if it cannot be read."""
    content = read_bytes(path)
    return None if content is None else content.decode("utf-8", "replace").strip("\0 \t\r\n")


def is_there(path: Path) -> bool:
    """Whether `path` exists; False where it cannot be known. ``Path.exists`` would raise behind a closed folder."""
    return os.path.exists(path)


def names_in(path: Path) -> tuple[str, ...] | None:
    """What is in the folder `path`, sorted; None if it is not there or cannot be listed."""
    try:
        return tuple(sorted(os.listdir(path)))
    except (OSError, ValueError):
        return None


def link_name(path: Path) -> str | None:
    """The last part of what the symbolic link `path` points to; None if it is no link."""
    try:
        return os.path.basename(os.readlink(path)) or None
    except (OSError, ValueError):
        return None
