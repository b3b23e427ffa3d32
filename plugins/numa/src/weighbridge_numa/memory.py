"""Private anonymous memory, on huge pages if wanted.

It is a ``mmap.mmap``, so views keep it mapped for as long as they live, and nobody can unmap it under them. Source:
mmap(2), madvise(2) and https://docs.kernel.org/admin-guide/mm/transhuge.html.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
from typing import Final

import attrs

from .abilities import Pages
from .files import read, read_int

# Not in the module mmap. include/uapi/asm-generic: the same wherever syscalls.NUMBERS has an entry.
_MAP_HUGETLB: Final = 0x40000
_MAP_HUGE_SHIFT: Final = 26
_MADV_POPULATE_WRITE: Final = 23  # Linux 5.14

_TRANSPARENT: Final = "sys/kernel/mm/transparent_hugepage"


class MappedRegion:
    """A part of a map: its beginning may be cut off, so that it begins on a huge page."""

    __slots__ = ("address", "exporter", "mapped_bytes", "nbytes", "offset", "page_bytes", "pages", "preferred")

    def __init__(
        self, exporter: mmap.mmap, nbytes: int, mapped_bytes: int, page_bytes: int, pages: Pages, offset: int = 0
    ) -> None:
        self.exporter = exporter
        self.address = _address(exporter) + offset
        self.nbytes = nbytes
        self.mapped_bytes = mapped_bytes
        self.page_bytes = page_bytes
        self.pages = pages
        self.offset = offset
        self.preferred: int | None = None

    def view(self) -> memoryview:
        """The memory, writable."""
        return memoryview(self.exporter)[self.offset : self.offset + self.nbytes]

    def populate(self) -> None:
        """Have every page there, with what is in it.

        :raises OSError: if there is no memory; for huge pages of the pool also where the kernel cannot do it safely.
        """
        try:
            self.exporter.madvise(_MADV_POPULATE_WRITE, self.offset, self.mapped_bytes)
        except OSError as error:
            if error.errno != errno.EINVAL or self.pages == "reserved":
                raise
            self._touch()

    def _touch(self) -> None:
        with self.view() as view:
            for offset in range(0, self.nbytes, self.page_bytes):
                view[offset] = view[offset]


@attrs.frozen(kw_only=True)
class HugePages:
    """What the kernel offers in huge pages."""

    page_bytes: int | None
    """Size of one that page tables know by themselves; None if there is none."""
    transparent: str | None
    """``"always"``, ``"madvise"`` or ``"never"``; None if the kernel does not know them."""
    reserved: int | None
    """Pages of `page_bytes` that lie unused in the pool; None without a pool."""


def read_huge_pages(root: str = "/") -> HugePages:
    """What the kernel offers in huge pages. It never raises.

    :param root: where the file system begins.
    """
    page_bytes = read_int(root, _TRANSPARENT, "hpage_pmd_size")
    words = (read(root, _TRANSPARENT, "enabled") or "").split()
    chosen = next((word.strip("[]") for word in words if word.startswith("[")), None)
    pool = f"sys/kernel/mm/hugepages/hugepages-{(page_bytes or 0) // 1024}kB/free_hugepages"
    return HugePages(page_bytes=page_bytes, transparent=chosen, reserved=read_int(root, pool))


def round_up(nbytes: int, unit: int) -> int:
    """The next multiple of `unit`."""
    return -(-nbytes // unit) * unit


def map_ordinary(nbytes: int) -> MappedRegion:
    """Memory on small pages.

    :raises OSError: if there is none.
    """
    mapped = round_up(nbytes, mmap.PAGESIZE)
    return MappedRegion(_anonymous(mapped), nbytes, mapped, mmap.PAGESIZE, "ordinary")


def map_transparent(nbytes: int, huge_bytes: int) -> MappedRegion | None:
    """Memory that begins on a huge page, and for which the kernel was asked to take huge pages; None if it will not.

    :raises OSError: if there is no memory.
    """
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    if advice is None:
        return None
    mapped = round_up(nbytes, mmap.PAGESIZE)
    block = _anonymous(mapped + huge_bytes)  # what is cut off is never touched, and so takes no memory
    offset = -_address(block) % huge_bytes
    try:
        block.madvise(advice, offset, mapped)
    except OSError:
        return None
    return MappedRegion(block, nbytes, mapped, mmap.PAGESIZE, "transparent", offset)


def map_reserved(nbytes: int, huge_bytes: int) -> MappedRegion | None:
    """Memory from the pool of huge pages; None if it does not suffice.

    Populate it before anything touches it: in a pool that ran dry meanwhile, a fault ends the process.
    """
    mapped = round_up(nbytes, huge_bytes)
    try:
        block = _anonymous(mapped, _MAP_HUGETLB | (huge_bytes.bit_length() - 1) << _MAP_HUGE_SHIFT)
    except OSError:
        return None
    return MappedRegion(block, nbytes, mapped, huge_bytes, "reserved")


def _anonymous(nbytes: int, flags: int = 0) -> mmap.mmap:
    # private: what is shared, as mmap maps by default, is a file in memory, and policies and madvise mean other things
    return mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | flags)


def _address(block: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(block))
