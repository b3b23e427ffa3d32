"""Linux: with the kernel that runs, and with one of four nodes that is made up."""

from __future__ import annotations

import ctypes
import errno
import gc
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge_numa import memory
from weighbridge_numa.abilities import Abilities
from weighbridge_numa.linux import Linux, open_linux, probe
from weighbridge_numa.memory import HugePages
from weighbridge_numa.syscalls import NUMBERS, Syscalls, find_syscalls, node_mask
from weighbridge_numa.topology import NumaNode, NumaTopology

PAGE = mmap.PAGESIZE
HUGE = 2 << 20
CPU = frozenset({0})

HERE = find_syscalls()
LOCAL = pytest.mark.skipif(
    HERE is None or probe(HERE).mode == "read-only", reason="this kernel allows no memory policy"
)


def error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class FourNodes:
    """A kernel with four nodes, node 2 without memory, each of the others with room for so many pages.

    A page is taken when it is first asked about: from the node that its range prefers, else from the first with room.
    """

    def __init__(self, room: int = 1000, *, busy: int = 0, allowed: Sequence[int] = (0, 1, 2, 3)) -> None:
        self.free = {node: 0 if node == 2 or node not in allowed else room for node in range(4)}
        self.preferred: dict[int, int] = {}
        self.pages: dict[int, int] = {}
        self.busy = busy
        self.moves = 0

    def prefer(self, address: int, nbytes: int, node: int | None) -> None:
        assert (address % PAGE, nbytes % PAGE) == (0, 0)
        if node is not None and not self.free.get(node):
            raise error(errno.EINVAL)
        self.preferred.update(dict.fromkeys(range(address, address + nbytes, PAGE), 0 if node is None else node))

    def nodes_of_pages(self, pages: Sequence[int]) -> list[int]:
        return [self.pages[page] if page in self.pages else self._take(page) for page in pages]

    def _take(self, page: int) -> int:
        first = self.preferred.get(page, 0)
        node = next(n for n in (first, *self.free) if self.free[n])
        self.free[node] -= 1
        self.pages[page] = node
        return node

    def move(self, pages: Sequence[int], node: int) -> None:
        self.moves += 1
        for page in pages:
            if self.busy:
                self.busy -= 1
                continue
            if not self.free[node]:
                raise error(errno.ENOMEM)
            self.free[self.pages[page]] += 1
            self.free[node] -= 1
            self.pages[page] = node


def four(kernel: FourNodes, **abilities: bool) -> Linux:
    nodes = tuple(NumaNode(id=n, total_bytes=0 if n == 2 else 1 << 30, cpus=CPU) for n in range(4))
    return Linux(
        topology=NumaTopology(nodes=nodes),
        policies=kernel,
        abilities=Abilities(**{"can_bind": True, "can_ask": True, **abilities}, evidence="made up"),
        huge_pages=HugePages(page_bytes=HUGE, transparent="madvise", reserved=None),
    )


# -- a kernel that is made up ------------------------------------------------------------------------------------------


def test_memory_comes_from_the_first_node_that_gives_some() -> None:
    """A node without memory is EINVAL, and the next one is tried."""
    machine = four(FourNodes())
    region = machine.map(10 * PAGE, (2, 3, 0))
    assert region.preferred == 3
    assert machine.where(region) == {3: 10 * PAGE}


def test_a_node_outside_of_the_cpuset_is_passed_over() -> None:
    """The kernel says EINVAL to it as well; without any node left, memory comes from anywhere."""
    machine = four(FourNodes(allowed=(1,)))
    assert machine.map(PAGE, (3, 1)).preferred == 1
    region = machine.map(PAGE, (3, 0))
    assert region.preferred is None
    assert machine.where(region) == {1: PAGE}


def test_what_does_not_fit_goes_to_another_node() -> None:
    """And where it is, is asked of the kernel, to the byte."""
    machine = four(FourNodes(room=6))
    region = machine.map(9 * PAGE + 5, (3,))
    assert region.preferred == 3
    assert machine.where(region) == {3: 6 * PAGE, 0: 3 * PAGE + 5}


def test_strays_are_moved() -> None:
    """Pages that were taken elsewhere are brought back, also when some of them are busy at first."""
    kernel = FourNodes(room=100, busy=7)
    machine = four(kernel)
    region = machine.map(10 * PAGE, ())
    assert machine.where(region) == {0: 10 * PAGE}
    assert machine.gather(region, 3)
    assert machine.where(region) == {3: 10 * PAGE}
    assert kernel.moves == 2


def test_a_full_node_is_no_success() -> None:
    """What the kernel cannot move stays where it is, and nothing raises."""
    machine = four(FourNodes(room=6))
    region = machine.map(10 * PAGE, (3,))
    assert not machine.gather(region, 3)
    assert machine.where(region) == {3: 6 * PAGE, 0: 4 * PAGE}


def test_pages_that_stay_busy_are_no_success() -> None:
    """It is not tried for ever."""
    kernel = FourNodes(busy=10_000)
    machine = four(kernel)
    assert not machine.gather(machine.map(10 * PAGE, ()), 3)
    assert 1 < kernel.moves < 100


@pytest.mark.parametrize("status", [-errno.ENOENT, -errno.EFAULT, -errno.EBUSY])
def test_a_page_that_is_not_there_is_on_no_node(status: int) -> None:
    """Kernels differ in the number by which they say so."""

    class Untouched(FourNodes):
        def nodes_of_pages(self, pages: Sequence[int]) -> list[int]:
            return [status, *super().nodes_of_pages(pages[1:])]

    machine = four(Untouched())
    assert machine.where(machine.map(3 * PAGE, (1,))) == {None: PAGE, 1: 2 * PAGE}


def test_what_is_forbidden_is_not_tried() -> None:
    """Without the calls there is memory all the same, and where it is, is not known."""
    kernel = FourNodes()
    machine = four(kernel, can_bind=False, can_ask=False)
    region = machine.map(3 * PAGE, (3,))
    assert region.preferred is None
    assert machine.where(region) == {None: 3 * PAGE}
    assert not machine.gather(region, 3)
    assert kernel.preferred == kernel.pages == {}


@given(room=st.integers(1, 40), nbytes=st.integers(1, 40 * PAGE), node=st.sampled_from([0, 1, 3]))
def test_every_byte_is_somewhere(room: int, nbytes: int, node: int) -> None:
    """However much room there is: the bytes by node add up, and no node has more than its room."""
    machine = four(FourNodes(room=room))
    region = machine.map(min(nbytes, 2 * room * PAGE), (node,))
    placement = machine.where(region)
    assert sum(placement.values()) == region.nbytes
    assert all(0 < part <= room * PAGE for part in placement.values())


# -- whether the calls are allowed -------------------------------------------------------------------------------------


class Forbidden(FourNodes):
    """As under the default filter of a container."""

    def __init__(self, *calls: str, number: int = errno.EPERM) -> None:
        super().__init__()
        self.calls, self.number = calls, number

    def prefer(self, address: int, nbytes: int, node: int | None) -> None:
        if "mbind" in self.calls:
            raise error(self.number)

    def nodes_of_pages(self, pages: Sequence[int]) -> list[int]:
        if "move_pages" in self.calls:
            raise error(self.number)
        return [0 for _ in pages]


@pytest.mark.parametrize(
    ("calls", "number", "mode", "evidence"),
    [
        ((), 0, "read-write", "mbind: answers; move_pages: answers"),
        (("mbind",), errno.EPERM, "read-only", "mbind: EPERM; move_pages: answers"),
        (("move_pages",), errno.EPERM, "read-only", "mbind: answers; move_pages: EPERM"),
        (("mbind", "move_pages"), errno.ENOSYS, "read-only", "mbind: ENOSYS; move_pages: ENOSYS"),
    ],
)
def test_forbidden_calls_make_it_read_only(calls: tuple[str, ...], number: int, mode: str, evidence: str) -> None:
    """Each is tried, and the evidence says what came of it."""
    abilities = probe(Forbidden(*calls, number=number))
    assert (abilities.mode, abilities.evidence) == (mode, evidence)


def test_without_calls_it_is_read_only() -> None:
    """On another system, or an architecture whose numbers are not known."""
    assert probe(None).mode == "read-only"


# -- how the kernel is called ------------------------------------------------------------------------------------------


class Wire:
    """Stands in for libc: it writes down what it was called with, and answers as it was told."""

    def __init__(self, *, places: Sequence[int] = (), raises: int = 0) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.places, self.raises = places, raises

    def __call__(self, number: int, *arguments: Any) -> int:
        self.calls.append((number, *arguments))
        if self.raises:
            raise error(self.raises)
        if number == 279:
            for index, place in enumerate(self.places):
                arguments[4][index] = place
        return 0


def test_a_preference_is_for_one_node_of_a_mask() -> None:
    """Mode 1, and one bit more than the mask has: the kernel takes one off before it counts."""
    wire = Wire()
    Syscalls(wire, NUMBERS["x86_64"]).prefer(0x7000, 2 * PAGE, 3)
    number, address, nbytes, mode, mask, maxnode, flags = wire.calls[0]
    assert (number, address, nbytes, mode, maxnode, flags) == (237, 0x7000, 2 * PAGE, 1, 1025, 0)
    assert list(mask) == [1 << 3] + [0] * (len(mask) - 1)


@given(st.frozensets(st.integers(0, 1023)))
def test_a_mask_has_a_bit_for_each_node(nodes: frozenset[int]) -> None:
    """In words of the machine, as the kernel reads them."""
    words = node_mask(nodes)
    width = 8 * ctypes.sizeof(ctypes.c_ulong)
    assert {index * width + bit for index, word in enumerate(words) for bit in range(width) if word >> bit & 1} == nodes


def test_no_preference_is_the_default_policy() -> None:
    """Without a mask, or the kernel says EINVAL."""
    wire = Wire()
    Syscalls(wire, NUMBERS["aarch64"]).prefer(0x7000, PAGE, None)
    assert wire.calls == [(235, 0x7000, PAGE, 0, 0, 0, 0)]


def test_pages_are_asked_about_without_moving_them() -> None:
    """No targets: a query. What the kernel does not fill in is not known."""
    wire = Wire(places=[3, -errno.EFAULT])
    found = Syscalls(wire, NUMBERS["x86_64"]).nodes_of_pages([PAGE, 2 * PAGE, 3 * PAGE])
    number, process, count, pages, targets, _, _ = wire.calls[0]
    assert (number, process, count, list(pages), targets) == (279, 0, 3, [PAGE, 2 * PAGE, 3 * PAGE], 0)
    assert list(found) == [3, -errno.EFAULT, -errno.ENOENT]


def test_many_pages_are_asked_about_in_batches() -> None:
    """And the answers are in order."""
    wire = Wire(places=[7])
    found = Syscalls(wire, NUMBERS["x86_64"]).nodes_of_pages(range(0, 40_000 * PAGE, PAGE))
    assert len(found) == 40_000
    assert [found[call * 16384] for call in range(len(wire.calls))] == [7, 7, 7]


def test_pages_are_moved_to_one_node() -> None:
    """Each has that target; an error of the kernel reaches the caller."""
    wire = Wire()
    Syscalls(wire, NUMBERS["x86_64"]).move([PAGE, 2 * PAGE], 3)
    assert list(wire.calls[0][4]) == [3, 3]
    with pytest.raises(OSError, match="Cannot allocate"):
        Syscalls(Wire(raises=errno.ENOMEM), NUMBERS["x86_64"]).move([PAGE], 3)


def test_an_unknown_architecture_has_no_calls() -> None:
    """A wrong number would be another call altogether."""
    assert find_syscalls("pdp11") is None


# -- the kernel that runs ----------------------------------------------------------------------------------------------


@LOCAL
def test_the_real_kernel_says_where_memory_is() -> None:
    """Nowhere before it is touched, then on the node that was preferred, if it is the only one."""
    machine = open_linux()
    assert machine.topology is not None
    node = machine.topology.spill_order(machine.topology.ids[0])[0]
    region = machine.map(100 * PAGE, (node,))
    assert region.preferred == node
    assert machine.where(region) == {None: 100 * PAGE}
    with region.view() as view:
        view[5 * PAGE] = 1
    placement = machine.where(region)
    assert (sum(placement.values()), placement[None]) == (100 * PAGE, 99 * PAGE)
    if not machine.topology.is_numa_aware:
        assert placement[node] == PAGE


@LOCAL
def test_the_real_kernel_refuses_a_node_that_is_not_there() -> None:
    """With EINVAL, and memory comes from elsewhere."""
    machine = open_linux()
    assert machine.topology is not None
    assert machine.policies is not None
    absent = max(machine.topology.ids) + 1
    block = memory.map_ordinary(PAGE)
    with pytest.raises(OSError, match="Invalid") as caught:
        machine.policies.prefer(block.address, block.mapped_bytes, absent)
    assert caught.value.errno == errno.EINVAL
    assert machine.map(PAGE, (absent,)).preferred is None


@LOCAL
def test_the_real_kernel_gathers_on_a_node() -> None:
    """Every page is there afterwards, and on it, and what was in them is still in them."""
    machine = open_linux()
    assert machine.topology is not None
    node = machine.topology.spill_order(machine.topology.ids[0])[0]
    region = machine.map(300 * PAGE, (node,))
    with region.view() as view:
        view[7 * PAGE] = 77
    assert machine.gather(region, node)
    assert machine.where(region) == {node: 300 * PAGE}
    with region.view() as view:
        assert view[7 * PAGE] == 77


# -- memory ------------------------------------------------------------------------------------------------------------


def rights(address: int) -> str | None:
    """What the process's own list of maps says of an address, such as ``"rw-p"``; None if nothing is mapped there."""
    for line in Path("/proc/self/maps").read_text(encoding="ascii").splitlines():
        span, flags, *_ = line.split()
        first, last = (int(end, 16) for end in span.split("-"))
        if first <= address < last:
            return flags
    return None


@given(nbytes=st.integers(1, 5 * PAGE))
def test_memory_is_zeroed_writable_and_of_that_size(nbytes: int) -> None:
    """It takes whole pages; the view has what was asked for."""
    region = memory.map_ordinary(nbytes)
    with region.view() as view:
        assert view.nbytes == nbytes
        assert not any(view)
        view[-1] = 1
    assert region.mapped_bytes == -(-nbytes // PAGE) * PAGE


def test_memory_stays_until_its_last_view_has_gone() -> None:
    """Nobody unmaps it under a view, and the last one takes it away."""
    region = memory.map_ordinary(3 * PAGE)
    address = region.address
    view = region.view()
    part = view[PAGE:]
    del region, view
    gc.collect()
    part[-1] = 9
    assert part[-1] == 9
    assert rights(address)
    del part
    assert rights(address) is None


def test_memory_is_private() -> None:
    """What is shared, as ``mmap`` maps by default, is a file in memory, and releasing its pages frees nothing."""
    assert rights(memory.map_ordinary(PAGE).address) == "rw-p"
    shared = memory.MappedRegion(mmap.mmap(-1, PAGE), PAGE, PAGE, PAGE, "ordinary")
    assert rights(shared.address) == "rw-s"


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="this system has no transparent huge pages")
def test_transparent_memory_begins_on_a_huge_page() -> None:
    """Or the kernel could not use one for its beginning."""
    for _ in range(3):
        region = memory.map_transparent(HUGE + 1, HUGE)
        if region is None:
            pytest.skip("this kernel has no transparent huge pages")
        assert region.address % HUGE == 0
        region.populate()
        with region.view() as view:
            assert (view.nbytes, view[0], view[-1]) == (HUGE + 1, 0, 0)


def test_a_pool_without_pages_is_passed_over() -> None:
    """Huge pages are a wish: without any, there are others."""
    machine = four(FourNodes())
    machine.huge_pages = HugePages(page_bytes=HUGE, transparent="never", reserved=0)
    if memory.read_huge_pages().reserved:
        pytest.skip("this machine has huge pages in reserve")
    region = machine.map(HUGE, (1,), huge=True)
    assert (region.pages, region.preferred) == ("ordinary", 1)


def test_less_than_a_huge_page_is_ordinary() -> None:
    """It would not fill one."""
    assert four(FourNodes()).map(HUGE - 1, (), huge=True).pages == "ordinary"


class OldKernel(mmap.mmap):
    """Without MADV_POPULATE_WRITE, as before Linux 5.14."""

    def madvise(self, option: int, start: int = 0, length: int | None = None) -> None:
        if option == 23:
            raise error(errno.EINVAL)


def test_an_old_kernel_is_made_to_populate_by_touching() -> None:
    """Every page, without changing what is in it."""
    block = OldKernel(-1, 10 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block[3 * PAGE] = 33
    region = memory.MappedRegion(block, 10 * PAGE - 5, 10 * PAGE, PAGE, "ordinary")
    region.populate()
    assert region.view()[3 * PAGE] == 33
    if HERE is not None and probe(HERE).can_ask:
        assert min(HERE.nodes_of_pages(range(region.address, region.address + 10 * PAGE, PAGE))) >= 0


def test_pages_of_the_pool_are_never_touched_unsafely() -> None:
    """Where the kernel cannot populate them, a fault could end the process: it is an error, and others are taken."""
    block = OldKernel(-1, PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with pytest.raises(OSError, match="Invalid"):
        memory.MappedRegion(block, PAGE, PAGE, PAGE, "reserved").populate()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, (None, None, None)),
        (
            {
                "transparent_hugepage/hpage_pmd_size": "2097152\n",
                "transparent_hugepage/enabled": "always [madvise] never\n",
                "hugepages/hugepages-2048kB/free_hugepages": "5\n",
            },
            (HUGE, "madvise", 5),
        ),
        ({"transparent_hugepage/enabled": "never"}, (None, None, None)),
    ],
)
def test_huge_pages_are_read(files: dict[str, str], expected: tuple[object, ...], tmp_path: Path) -> None:
    """What is not there is None."""
    for name, text in files.items():
        path = tmp_path / "sys/kernel/mm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
    found = memory.read_huge_pages(str(tmp_path))
    assert (found.page_bytes, found.transparent, found.reserved) == expected
