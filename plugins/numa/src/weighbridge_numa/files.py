"""Small files of the kernel, read without complaint: what is not there is None."""

from __future__ import annotations

import os
from typing import Final

# sysfs gives a page at most, /proc/self/status a little more; anything longer is no file of the kernel's
_LIMIT: Final = 1 << 16


def read(*path: str) -> str | None:
    """The text of a file, without NULs and blanks at its ends; None if it cannot be read."""
    try:
        with open(os.path.join(*path), "rb", buffering=0) as file:
            content = file.read(_LIMIT)
    except OSError:
        return None
    return content.decode("utf-8", "replace").strip("\0 \t\r\n")


def read_int(*path: str) -> int | None:
    """The whole number in a file; None if it cannot be read or holds something else."""
    text = read(*path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def entries(*path: str) -> list[str]:
    """The names in a folder, sorted; none if it cannot be read."""
    try:
        return sorted(os.listdir(os.path.join(*path)))
    except OSError:
        return []
