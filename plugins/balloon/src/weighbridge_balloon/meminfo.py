"""The memory of this machine as the kernel counts it."""

from __future__ import annotations

from typing import Final

import attrs

_KIB: Final = 1024
_DIGITS: Final = 18


@attrs.frozen(kw_only=True)
class Memory:
    """What /proc/meminfo says, in bytes; None where it does not."""

    total_bytes: int | None = None
    """Without what a balloon holds, unless the balloon deflates when memory runs out
    (VIRTIO_BALLOON_F_DEFLATE_ON_OOM)."""
    free_bytes: int | None = None
    """Used by nobody."""
    available_bytes: int | None = None
    """What programs could get without swapping; the kernel's estimate, since Linux 3.14."""
    balloon_bytes: int | None = None
    """Held by the balloon; since Linux 6.16."""
    committed_bytes: int | None = None
    """Promised to programs. A Hyper-V host decides by this."""


def parse_meminfo(text: bytes) -> Memory:
    """Read the text of https://docs.kernel.org/filesystems/proc.html#meminfo; what makes no sense counts as missing."""
    text = b"\n" + text
    return Memory(
        total_bytes=_bytes(text, b"\nMemTotal:"),
        free_bytes=_bytes(text, b"\nMemFree:"),
        available_bytes=_bytes(text, b"\nMemAvailable:"),
        balloon_bytes=_bytes(text, b"\nBalloon:"),
        committed_bytes=_bytes(text, b"\nCommitted_AS:"),
    )


def _bytes(text: bytes, name: bytes) -> int | None:
    # Not a regular expression: this runs several times a second, and find() takes a tenth of the time.
    start = text.find(name)
    if start < 0:
        return None
    end = text.find(b"\n", start + 1)
    number, _, unit = text[start + len(name) : end if end >= 0 else len(text)].strip().partition(b" ")
    return int(number) * _KIB if unit == b"kB" and number.isdigit() and len(number) <= _DIGITS else None
