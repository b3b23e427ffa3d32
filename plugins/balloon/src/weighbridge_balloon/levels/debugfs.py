"""What drivers of VMware and of Hyper-V show to root: files of debugfs."""

from __future__ import annotations

import mmap
import re
from pathlib import Path
from typing import Final

from ..kept import KeptFile
from .level import UNKNOWN, Level

_LINE: Final = re.compile(rb"^[ \t]*([a-z_]+)[ \t]*:[ \t]*([0-9]{1,18})(?:[ \t]+pages)?[ \t]*$", re.MULTILINE)


class VmwareDebugLevel:
    """``vmmemctl``: lines ``target`` and ``current``, in pages of 4 KiB (``vmballoon_debug_show``).

    https://github.com/torvalds/linux/blob/v6.12/drivers/misc/vmw_balloon.c
    """

    def __init__(self, root: Path) -> None:
        self._file = KeptFile(root / "sys/kernel/debug/vmmemctl")

    @property
    def name(self) -> str:
        """The file."""
        return "/sys/kernel/debug/vmmemctl"

    def read(self) -> Level:
        """Size and target."""
        numbers = parse_numbers(self._file.read())
        current, target = numbers.get("current"), numbers.get("target")
        if current is None:
            return UNKNOWN
        wanted = None if target is None else (target - current) * mmap.PAGESIZE
        return Level(actual_bytes=current * mmap.PAGESIZE, wanted_bytes=wanted)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class HypervDebugLevel:
    """``hv-balloon``: lines ``pages_ballooned`` and ``page_size`` (``hv_balloon_debug_show``, Linux 6.2).

    https://github.com/torvalds/linux/blob/v6.12/drivers/hv/hv_balloon.c. The host tells its wish in one message and
    keeps no target, so none is to be seen.
    """

    def __init__(self, root: Path) -> None:
        self._file = KeptFile(root / "sys/kernel/debug/hv-balloon")

    @property
    def name(self) -> str:
        """The file."""
        return "/sys/kernel/debug/hv-balloon"

    def read(self) -> Level:
        """The size."""
        numbers = parse_numbers(self._file.read())
        pages = numbers.get("pages_ballooned")
        return UNKNOWN if pages is None else Level(actual_bytes=pages * numbers.get("page_size", 4096))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def parse_numbers(text: bytes | None) -> dict[str, int]:
    """Lines of the form ``name : number``, with or without the word "pages"; all others are passed over."""
    return {name.decode("ascii"): int(number) for name, number in _LINE.findall(text or b"")}
