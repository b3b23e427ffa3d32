"""Windows as its documentation has it: bytes in the documented layouts, and a stand-in for ``kernel32``."""

from __future__ import annotations

import ctypes
import mmap
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge_numa import NumaAllocator
from weighbridge_numa.windows import Windows, node_of_flags, parse_relations, read_topology

PAGE = 4096


def relation(node: int, *affinities: tuple[int, int], groups: int | None = None, kind: int = 1) -> bytes:
    """SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX with a NUMA_NODE_RELATIONSHIP: a mask and a group for each affinity."""
    body = struct.pack("<I18xH", node, len(affinities) if groups is None else groups)
    body += b"".join(struct.pack("<QH6x", mask, group) for mask, group in affinities)
    return struct.pack("<II", kind, 8 + len(body)) + body


class Kernel32:
    """As much of ``kernel32`` as is used: two nodes, of which node 2 has processors in two groups."""

    large = 2 << 20

    def __init__(self, *, node_of_pages: int = 2, privileged: bool = False, numa: bool = True) -> None:
        self.node_of_pages, self.privileged, self.numa = node_of_pages, privileged, numa
        self.blocks: dict[int, mmap.mmap] = {}
        self.asked: list[tuple[int, int]] = []
        self.opened: list[str] = []
        self.closed = 0
        self.handles: dict[str, tuple[int | None, int | None]] = {
            "\\\\.\\PhysicalDrive0": (1, None),
            "\\\\.\\PhysicalDrive1": (None, None),
            "\\\\?\\Volume{1}": (None, 5),
        }

    def GetNumaHighestNodeNumber(self, highest: Any) -> int:
        highest._obj.value = 2
        return int(self.numa)

    def GetNumaAvailableMemoryNodeEx(self, node: Any, available: Any) -> int:
        available._obj.value = 1 << 30
        return int(node.value in (0, 2))

    def GetLogicalProcessorInformationEx(self, kind: int, block: Any, length: Any) -> int:
        content = relation(0, (0b11, 0)) + relation(2, (0b100, 0), (0b1, 1))
        length._obj.value = len(content)
        if block is None:
            return 0
        ctypes.memmove(block, content, len(content))
        return 1

    def GetCurrentProcess(self) -> int:
        return (1 << 64) - 1

    def GetLargePageMinimum(self) -> int:
        return self.large

    def VirtualAllocExNuma(self, process: Any, address: None, nbytes: Any, kind: int, rights: int, node: Any) -> Any:
        self.asked.append((kind, node.value))
        if kind & 0x20000000 and not self.privileged:
            return None
        block = mmap.mmap(-1, nbytes.value)
        place = ctypes.addressof(ctypes.c_char.from_buffer(block))
        self.blocks[place] = block
        return place

    def VirtualFree(self, address: Any, nbytes: Any, kind: int) -> int:
        assert (nbytes.value, kind) == (0, 0x8000)
        self.blocks.pop(address.value)
        return 1

    def K32QueryWorkingSetEx(self, process: Any, entries: Any, size: Any) -> int:
        assert size.value == ctypes.sizeof(entries)
        for index in range(0, len(entries), 2):
            entries[index + 1] = 1 | self.node_of_pages << 16 if index else 0
        return 1

    def CreateFileW(self, name: str, *arguments: Any) -> int:
        self.opened.append(name)
        return list(self.handles).index(name) + 1 if name in self.handles else (1 << 64) - 1

    def CloseHandle(self, handle: Any) -> None:
        self.closed += 1

    def GetNumaNodeNumberFromHandle(self, handle: Any, node: Any) -> int:
        found = list(self.handles.values())[handle.value - 1][0]
        node._obj.value = found or 0
        return int(found is not None)

    def DeviceIoControl(self, handle: Any, code: int, a: None, b: int, output: Any, *rest: Any) -> int:
        found = list(self.handles.values())[handle.value - 1][1]
        output._obj.value = found or 0
        return int(found is not None and code == 0x000903D4)

    def GetVolumePathNameW(self, path: str, mount: Any, size: int) -> int:
        mount.value = "C:\\"
        return int(path.startswith("C:"))

    def GetVolumeNameForVolumeMountPointW(self, mount: Any, volume: Any, size: int) -> int:
        volume.value = "\\\\?\\Volume{1}\\"
        return 1


def windows(kernel32: Kernel32) -> Windows:
    return Windows(kernel32, read_topology(kernel32))


def test_nodes_are_those_with_processors_or_memory() -> None:
    """The highest number is no count, and what Windows does not tell is unknown."""
    topology = read_topology(Kernel32())
    assert topology is not None
    assert topology.ids == (0, 2)
    assert [node.cpus for node in topology.nodes] == [frozenset({0, 1}), frozenset({2, 64})]
    assert [node.total_bytes for node in topology.nodes] == [None, None]
    assert topology.distances is None
    assert read_topology(Kernel32(numa=False)) is None


def test_old_records_have_one_group() -> None:
    """Before 20H2 the count is 0."""
    assert parse_relations(relation(3, (0b101, 2), groups=0)) == {3: {128, 130}}


def test_other_relations_are_passed_over() -> None:
    """Caches and cores come in the same list."""
    assert parse_relations(relation(1, (1, 0), kind=2) + relation(4, (1, 0))) == {4: {0}}


@given(st.binary(max_size=200), st.integers(0, 60))
def test_any_bytes_are_processors_by_node(content: bytes, cut: int) -> None:
    """Damage never raises; what is whole before it is read."""
    parse_relations(content)
    whole = relation(1, (0b10, 0))
    assert parse_relations(whole + whole[: min(cut, len(whole) - 1)])[1] == {1}


@given(st.integers(0, 63), st.integers(0, (1 << 64) - 1))
def test_the_node_of_a_page_has_six_bits(node: int, other: int) -> None:
    """Whatever the others are; a page that is not valid is nowhere."""
    flags = other & ~(0x3F << 16) | node << 16
    assert node_of_flags(flags | 1) == node
    assert node_of_flags(flags & ~1) is None


def test_memory_is_asked_for_on_a_node_and_freed_with_its_last_view() -> None:
    """Reserved and committed at once; without a node, with the number that stands for none."""
    kernel32 = Kernel32()
    allocator = NumaAllocator(windows(kernel32))
    buffer = allocator.allocate(PAGE + 1, node=2)
    allocator.allocate(1).release()
    assert kernel32.asked == [(0x3000, 2), (0x3000, 0xFFFFFFFF)]
    view = buffer.view()
    view[PAGE] = 9
    assert (len(view), buffer.mapped_bytes, buffer.preferred) == (PAGE + 1, 2 * PAGE, 2)
    buffer.release()
    assert len(kernel32.blocks) == 1
    del view
    assert kernel32.blocks == {}


def test_where_memory_is_is_asked_of_the_working_set() -> None:
    """Page by page; the first one here is not there yet."""
    allocator = NumaAllocator(windows(Kernel32()))
    assert allocator.placement(allocator.allocate(3 * PAGE + 5, node=2)) == {None: PAGE, 2: 2 * PAGE + 5}


def test_strict_memory_is_verified() -> None:
    """Windows moves nothing: what was not put there at the first touch is an error."""

    class Touched(Kernel32):
        def K32QueryWorkingSetEx(self, process: Any, entries: Any, size: Any) -> int:
            entries[1::2] = [1 | self.node_of_pages << 16] * (len(entries) // 2)
            return 1

    with NumaAllocator(windows(Touched())).allocate(3 * PAGE, node=2, strict=True) as buffer:
        assert buffer.preferred == 2
    with pytest.raises(Exception, match="does not hold all"):
        NumaAllocator(windows(Touched(node_of_pages=0))).allocate(3 * PAGE, node=2, strict=True)


@pytest.mark.parametrize(("privileged", "pages"), [(True, "reserved"), (False, "ordinary")])
def test_large_pages_need_a_privilege(privileged: bool, pages: str) -> None:
    """Without it there are small ones."""
    buffer = NumaAllocator(windows(Kernel32(privileged=privileged))).allocate(3 << 20, node=0, huge=True)
    assert (buffer.pages, buffer.mapped_bytes) == (pages, 4 << 20 if privileged else 3 << 20)


@pytest.mark.parametrize(
    ("name", "nodes"),
    [("\\\\.\\PhysicalDrive0", {1}), ("\\\\.\\PhysicalDrive1", None), ("C:\\data\\file", {5})],
)
def test_devices_and_the_volumes_of_files_have_nodes(name: str, nodes: set[int] | None) -> None:
    """Of a disk that it says, of a volume by another question; None if it says neither. The handle is closed."""
    kernel32 = Kernel32()
    assert windows(kernel32).nodes_of(name) == nodes
    assert kernel32.closed == 1


@pytest.mark.parametrize("name", ["\\\\.\\PhysicalDrive9", "Z:\\nothing"])
def test_what_does_not_exist_on_windows_is_an_error(name: str) -> None:
    """As on Linux."""
    with pytest.raises(FileNotFoundError):
        windows(Kernel32()).nodes_of(name)
