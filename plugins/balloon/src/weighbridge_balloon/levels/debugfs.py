"""What drivers of VMware and of Hyper-V show to root: files of debugfs."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Final

from ..kept import KeptFile
from .level import UNKNOWN, Level

_DIGITS: Final = 18


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

    @property
    def sees_target(self) -> bool:
        """Yes."""
        return True

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

    @property
    def sees_target(self) -> bool:
        """No."""
        return False

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
    found = {}
    for line in (text or b"").splitlines():
        name, _, rest = line.partition(b":")
        words = rest.split()
        if words and words[0].isdigit() and len(words[0]) <= _DIGITS and words[1:] in ([], [b"pages"]):
            found[name.strip().decode("utf-8", "replace")] = int(words[0])
    return found
