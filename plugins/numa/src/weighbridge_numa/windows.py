"""Windows, by its documented interfaces, behind the functions that Linux has.

Written from the documentation and from the layouts in the mingw-w64 headers, and not run on Windows: the tests feed
the parsers with bytes of those layouts, and the calls with a stand-in for ``kernel32``. Sources, at
https://learn.microsoft.com/windows/win32/: ``sysinfoapi/nf-sysinfoapi-getlogicalprocessorinformationex``,
``winnt/ns-winnt-numa_node_relationship``, ``memoryapi/nf-memoryapi-virtualallocexnuma``,
``psapi/ns-psapi-psapi_working_set_ex_block``, ``winbase/nf-winbase-getnumanodenumberfromhandle``.
"""

from __future__ import annotations

import ctypes
import struct
import weakref
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from .abilities import Abilities, Pages
from .topology import NumaNode, NumaTopology

if TYPE_CHECKING:
    from .machine import Region

_RELATION_NUMA_NODE: Final = 1
_GROUP_BITS: Final = 64
_MEM_COMMIT_RESERVE: Final = 0x3000
_MEM_RELEASE: Final = 0x8000
_MEM_LARGE_PAGES: Final = 0x20000000
_PAGE_READWRITE: Final = 0x04
_NO_PREFERRED_NODE: Final = 0xFFFFFFFF
_SHARE_ALL: Final = 0x07
_OPEN_EXISTING: Final = 3
_INVALID_HANDLE: Final = (1 << 8 * ctypes.sizeof(ctypes.c_void_p)) - 1
_FSCTL_QUERY_VOLUME_NUMA_INFO: Final = 0x000903D4
_PAGE_BYTES: Final = 4096
_PATH_CHARS: Final = 1024
_DEVICE: Final = "\\\\.\\"
_EVIDENCE: Final = "VirtualAllocExNuma and QueryWorkingSetEx are there; a node is preferred, never bound"


def open_windows() -> Windows:
    """The machine that runs."""
    kernel32 = _kernel32()
    return Windows(kernel32, read_topology(kernel32))


def _kernel32() -> Any:
    """With the types of what is not an int: a handle or a pointer would lose its upper half."""
    dll = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
    for name in ("GetCurrentProcess", "CreateFileW", "VirtualAllocExNuma"):
        getattr(dll, name).restype = ctypes.c_void_p
    dll.GetLargePageMinimum.restype = ctypes.c_size_t
    return dll


def read_topology(kernel32: Any) -> NumaTopology | None:
    """The nodes that have processors or memory; None if Windows does not say. It knows no sizes and no distances."""
    highest = ctypes.c_ulong()
    if not kernel32.GetNumaHighestNodeNumber(ctypes.byref(highest)):
        return None
    processors = parse_relations(_relations(kernel32))
    # the highest number is no count: there may be gaps below it
    ids = [each for each in range(highest.value + 1) if each in processors or _has_memory(kernel32, each)]
    nodes = tuple(NumaNode(id=each, cpus=processors.get(each, frozenset())) for each in ids)
    return NumaTopology(nodes=nodes, source="GetNumaHighestNodeNumber") if nodes else None


def _has_memory(kernel32: Any, node: int) -> bool:
    available = ctypes.c_ulonglong()
    return bool(kernel32.GetNumaAvailableMemoryNodeEx(ctypes.c_ushort(node), ctypes.byref(available)))


def _relations(kernel32: Any) -> bytes:
    length = ctypes.c_ulong()
    kernel32.GetLogicalProcessorInformationEx(_RELATION_NUMA_NODE, None, ctypes.byref(length))
    block = ctypes.create_string_buffer(length.value)
    answered = kernel32.GetLogicalProcessorInformationEx(_RELATION_NUMA_NODE, block, ctypes.byref(length))
    return block.raw[: length.value] if answered else b""


def parse_relations(content: bytes) -> dict[int, frozenset[int]]:
    """Processors by node, from records of ``SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX`` for 64 bits.

    A processor's number is 64 times its group and its bit. What is cut off or of another kind is left out.
    """
    found: defaultdict[int, frozenset[int]] = defaultdict(frozenset)
    offset = 0
    while offset + 8 <= len(content):
        relation, size = struct.unpack_from("<II", content, offset)
        record = content[offset : offset + size]
        if size < 8 or len(record) < size:
            break
        if relation == _RELATION_NUMA_NODE and size >= 48:
            (node,) = struct.unpack_from("<I", record, 8)
            found[node] |= _processors(record)
        offset += size
    return dict(found)


def _processors(record: bytes) -> frozenset[int]:
    """Of one NUMA_NODE_RELATIONSHIP. Before Windows 10 20H2 the count of groups is 0, and there is one."""
    (groups,) = struct.unpack_from("<H", record, 8 + 22)
    offsets = range(8 + 24, min(len(record) - 15, 8 + 24 + 16 * max(1, groups)), 16)
    affinities = (struct.unpack_from("<QH", record, offset) for offset in offsets)
    return frozenset(
        group * _GROUP_BITS + bit for mask, group in affinities for bit in range(_GROUP_BITS) if mask >> bit & 1
    )


def node_of_flags(flags: int) -> int | None:
    """The node in a ``PSAPI_WORKING_SET_EX_BLOCK``; None if the page is not there. It has six bits."""
    return flags >> 16 & 0x3F if flags & 1 else None


@attrs.frozen(kw_only=True, eq=False)
class WindowsRegion:
    """Memory of ``VirtualAllocExNuma``."""

    exporter: ctypes.Array[ctypes.c_char]
    address: int
    nbytes: int
    mapped_bytes: int
    preferred: int | None
    pages: Pages
    page_bytes: int = _PAGE_BYTES

    def view(self) -> memoryview:
        """The memory, writable."""
        return memoryview(self.exporter).cast("B")[: self.nbytes]

    def populate(self) -> None:
        """Have every page there, with what is in it."""
        with self.view() as view:
            for offset in range(0, self.nbytes, self.page_bytes):
                view[offset] = view[offset]


class Windows:
    """A machine with Windows; see :class:`Machine`."""

    def __init__(self, kernel32: Any, topology: NumaTopology | None) -> None:
        self._kernel32 = kernel32
        self.topology = topology
        self.abilities = Abilities(can_bind=True, can_ask=True, evidence=_EVIDENCE)

    def map(self, nbytes: int, order: Sequence[int], *, huge: bool = False) -> WindowsRegion:
        """See :meth:`Machine.map`. Any number is accepted for a node, so `order` holds only those that exist."""
        preferred = order[0] if order else None
        if huge and (large := int(self._kernel32.GetLargePageMinimum())) and nbytes >= large:
            mapped = -(-nbytes // large) * large
            # needs the privilege to lock pages; without it, or without such memory, there are small ones
            if address := self._allocate(mapped, preferred, _MEM_LARGE_PAGES):
                return self._region(address, nbytes, mapped, preferred, "reserved")
        mapped = -(-nbytes // _PAGE_BYTES) * _PAGE_BYTES
        if address := self._allocate(mapped, preferred, 0):
            return self._region(address, nbytes, mapped, preferred, "ordinary")
        raise OSError(f"VirtualAllocExNuma gives no {mapped} bytes")

    def gather(self, region: Region, node: int) -> bool:
        """See :meth:`Machine.gather`. Windows moves no pages: they are where the first touch found room."""
        region.populate()
        return set(self.where(region)) == {node}

    def where(self, region: Region) -> Mapping[int | None, int]:
        """See :meth:`Machine.where`."""
        pages = range(region.address, region.address + region.nbytes, _PAGE_BYTES)
        entries = (ctypes.c_size_t * (2 * len(pages)))()
        entries[::2] = list(pages)
        process = ctypes.c_void_p(self._kernel32.GetCurrentProcess())
        if not self._kernel32.K32QueryWorkingSetEx(process, entries, ctypes.c_ulong(ctypes.sizeof(entries))):
            return {None: region.nbytes}
        found: defaultdict[int | None, int] = defaultdict(int)
        for page, flags in zip(pages, entries[1::2], strict=True):
            found[node_of_flags(flags)] += min(_PAGE_BYTES, region.address + region.nbytes - page)
        return dict(found)

    def nodes_of(self, name: str) -> frozenset[int] | None:
        r"""See :meth:`Machine.nodes_of`. A device is named as ``\\.\PhysicalDrive0``."""
        target = name if name.startswith(_DEVICE) else self._volume_of(name)
        handle = self._kernel32.CreateFileW(target, 0, _SHARE_ALL, None, _OPEN_EXISTING, 0, None)
        if handle in (None, _INVALID_HANDLE):
            raise FileNotFoundError(f"no device and no file of the name {name}")
        try:
            node = self._node_of_handle(ctypes.c_void_p(handle))
        finally:
            self._kernel32.CloseHandle(ctypes.c_void_p(handle))
        return None if node is None else frozenset({node})

    def _node_of_handle(self, handle: ctypes.c_void_p) -> int | None:
        node = ctypes.c_ushort()
        if self._kernel32.GetNumaNodeNumberFromHandle(handle, ctypes.byref(node)):
            return node.value
        of_volume, length = ctypes.c_ulong(), ctypes.c_ulong()
        answered = self._kernel32.DeviceIoControl(
            handle, _FSCTL_QUERY_VOLUME_NUMA_INFO, None, 0, ctypes.byref(of_volume), 4, ctypes.byref(length), None
        )
        return of_volume.value if answered else None

    def _volume_of(self, path: str) -> str:
        """The volume under a file; CreateFile wants its name without the backslash at the end."""
        mount, volume = (ctypes.create_unicode_buffer(_PATH_CHARS) for _ in range(2))
        found = self._kernel32.GetVolumePathNameW(path, mount, _PATH_CHARS)
        if not found or not self._kernel32.GetVolumeNameForVolumeMountPointW(mount, volume, _PATH_CHARS):
            raise FileNotFoundError(f"no device and no file of the name {path}")
        return volume.value.removesuffix("\\")

    def _allocate(self, nbytes: int, node: int | None, flags: int) -> int | None:
        address: int | None = self._kernel32.VirtualAllocExNuma(
            ctypes.c_void_p(self._kernel32.GetCurrentProcess()),
            None,
            ctypes.c_size_t(nbytes),
            _MEM_COMMIT_RESERVE | flags,
            _PAGE_READWRITE,
            ctypes.c_ulong(_NO_PREFERRED_NODE if node is None else node),
        )
        return address

    def _region(self, address: int, nbytes: int, mapped: int, preferred: int | None, pages: Pages) -> WindowsRegion:
        # Arrays have no weak references, classes made of them do. It says that it is of ctypes, as a view of it would
        # otherwise keep this plugin; what frees it belongs to Windows.
        kind: Any = type("Memory", (ctypes.c_char * mapped,), {"__module__": "ctypes"})
        exporter = kind.from_address(address)
        release = weakref.finalize(
            exporter, self._kernel32.VirtualFree, ctypes.c_void_p(address), ctypes.c_size_t(0), _MEM_RELEASE
        )
        release.atexit = False
        return WindowsRegion(
            exporter=exporter,
            address=address,
            nbytes=nbytes,
            mapped_bytes=mapped,
            preferred=preferred,
            pages=pages,
        )
