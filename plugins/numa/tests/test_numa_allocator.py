"""The allocator's choices, on a machine of four nodes that is made up, and what it lends, on the one that runs."""

from __future__ import annotations

import gc
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from weighbridge_hookspecs import CeilingExceeded, LeaseError

from weighbridge_numa import NumaAllocator, NumaBuffer, NumaNode, NumaTopology, local_allocator
from weighbridge_numa.abilities import Abilities
from weighbridge_numa.machine import Region
from weighbridge_numa.memory import MappedRegion, map_ordinary

PAGE = 4096
CPU = frozenset({0})
FOUR = NumaTopology(
    nodes=(
        NumaNode(id=0, total_bytes=1 << 30, cpus=CPU),
        NumaNode(id=1, total_bytes=1 << 30, cpus=CPU),
        NumaNode(id=2, total_bytes=0, cpus=CPU),
        NumaNode(id=3, total_bytes=1 << 30, cpus=frozenset()),
    ),
    distances=((10, 20, 30, 40), (20, 10, 25, 25), (30, 25, 10, 17), (40, 25, 17, 10)),
)
ONE = NumaTopology(nodes=(NumaNode(id=0, total_bytes=1 << 30, cpus=CPU),))


class Made:
    """A machine on which so many bytes fit on each node."""

    def __init__(
        self,
        topology: NumaTopology | None = FOUR,
        room: Mapping[int, int] | None = None,
        *,
        accepts: Sequence[int] = (0, 1, 3),
        fails: bool = False,
    ) -> None:
        self.topology = topology
        self.abilities = Abilities(can_bind=bool(accepts), can_ask=bool(accepts), evidence="mbind: EPERM")
        self.room = dict(room or dict.fromkeys((0, 1, 3), 1 << 30))
        self.accepts, self.fails = accepts, fails
        self.asked: list[tuple[int, tuple[int, ...], bool]] = []

    def map(self, nbytes: int, order: Sequence[int], *, huge: bool = False) -> MappedRegion:
        self.asked.append((nbytes, tuple(order), huge))
        if self.fails:
            raise OSError(12, "Cannot allocate memory")
        region = map_ordinary(nbytes)
        region.preferred = next((node for node in order if node in self.accepts), None)
        return region

    def gather(self, region: Region, node: int) -> bool:
        region.populate()
        return region.nbytes <= self.room[node]

    def where(self, region: Region) -> Mapping[int | None, int]:
        here = region.preferred if region.preferred is not None else 0
        fits = min(region.nbytes, self.room[here])
        return {here: fits, None: region.nbytes - fits}

    def nodes_of(self, name: str) -> frozenset[int] | None:
        return {"nvme0n1": frozenset({3})}.get(name)


class Account:
    """As much of a context as the allocator uses: it writes down what was charged."""

    def __init__(self) -> None:
        self.bytes: Counter[str] = Counter()
        self.lock = threading.RLock()

    def charge(self, nbytes: int, label: str) -> Charged:
        with self.lock:
            self.bytes[label] += nbytes
        return Charged(self, nbytes, label)

    @property
    def total(self) -> int:
        return sum(self.bytes.values())


class Charged:
    def __init__(self, account: Account, nbytes: int, label: str) -> None:
        self.account, self.nbytes, self.label = account, nbytes, label

    def release(self) -> None:
        with self.account.lock:
            self.account.bytes[self.label] -= self.nbytes
            self.nbytes = 0


# -- which node --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "order", "preferred"),
    [
        (None, (), None),
        (0, (0, 1, 3), 0),
        (3, (3, 1, 0), 3),
        (2, (3, 1, 0), 3),
        (9, (), None),
    ],
)
def test_the_node_is_tried_first_then_the_nearest(
    node: int | None, order: tuple[int, ...], preferred: int | None
) -> None:
    """A node without memory is replaced by the nearest that has some; one that does not exist by any."""
    machine = Made()
    buffer = NumaAllocator(machine).allocate(100, node=node)
    assert machine.asked == [(100, order, False)]
    assert (buffer.node, buffer.preferred) == (node, preferred)


def test_without_nodes_memory_is_ordinary() -> None:
    """The same program runs on a machine that says nothing about nodes, or forbids the calls."""
    for machine in (Made(None, accepts=()), Made(ONE, accepts=()), Made(accepts=())):
        with NumaAllocator(machine).allocate(100, node=1) as buffer:
            assert (buffer.nbytes, buffer.node, buffer.preferred) == (100, 1, None)
            assert bytes(buffer.view()) == bytes(100)


def test_huge_pages_are_passed_on_as_a_wish() -> None:
    """The machine knows what there is."""
    machine = Made()
    NumaAllocator(machine).allocate(100, node=0, huge=True)
    assert machine.asked == [(100, (0, 1, 3), True)]


@given(node=st.none() | st.integers(0, 300), nbytes=st.integers(1, 10 * PAGE))
def test_any_node_is_served(node: int | None, nbytes: int) -> None:
    """Without strict, a node is a wish, whatever it is."""
    buffer = NumaAllocator(Made()).allocate(nbytes, node=node)
    assert len(buffer.view()) == nbytes == len(buffer)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"nbytes": 0}, "a buffer of 0 bytes: give a whole number from 1 up"),
        ({"nbytes": -1}, "a buffer of -1 bytes"),
        ({"nbytes": True}, "a buffer of True bytes"),
        ({"nbytes": "4k"}, "a buffer of '4k' bytes"),
        ({"nbytes": 1, "node": "x"}, "node 'x': give the number of a node, or None"),
        ({"nbytes": 1, "node": False}, "node False"),
        ({"nbytes": 1, "strict": True}, "strict needs a node: say which"),
    ],
)
def test_what_makes_no_sense_is_an_error(arguments: dict[str, Any], said: str) -> None:
    """No bytes, what is no number, or strict without a node."""
    with pytest.raises(ValueError, match=said):
        NumaAllocator(Made()).allocate(**arguments)


# -- strict ------------------------------------------------------------------------------------------------------------


def test_strict_memory_is_all_on_its_node() -> None:
    """No other node is even tried."""
    machine = Made()
    buffer = NumaAllocator(machine).allocate(100, node=3, strict=True)
    assert machine.asked == [(100, (3,), False)]
    assert buffer.preferred == 3


@pytest.mark.parametrize(
    ("machine", "node", "had"),
    [
        (Made(room={3: 60, 0: 0, 1: 0}), 3, "60 bytes on node 3, 40 bytes of which the kernel says nothing"),
        (Made(), 2, "a node that gives no memory, or mbind: EPERM"),
        (Made(accepts=()), 3, "a node that gives no memory, or mbind: EPERM"),
        (Made(), 7, "no such node"),
        (Made(ONE), 1, "no such node"),
        (Made(None), 0, "a machine that says nothing about nodes"),
    ],
)
def test_strict_memory_that_cannot_be_had_is_an_error(machine: Made, node: int, had: str) -> None:
    """It says what there was instead, and leaves nothing on the account."""
    account = Account()
    allocator = NumaAllocator(machine, account.charge)
    with pytest.raises(LeaseError) as caught:
        allocator.allocate(100, node=node, strict=True)
    assert (caught.value.wanted, caught.value.had) == (f"100 bytes on node {node}", had)
    assert account.total == 0
    assert (allocator.statistics().allocations, allocator.statistics().refused) == (0, 1)


def test_the_only_node_needs_no_proof() -> None:
    """Where there is no other place, strict works although the calls are forbidden."""
    buffer = NumaAllocator(Made(ONE, accepts=())).allocate(100, node=0, strict=True)
    assert buffer.nbytes == 100


# -- the account -------------------------------------------------------------------------------------------------------


def test_bytes_are_on_the_owners_account() -> None:
    """Of the plugin that it is for, if that one says so, else of the one that allocates: whole pages, until the end."""
    numa, owner = Account(), Account()
    allocator = NumaAllocator(Made(), numa.charge)
    mine, theirs = allocator.allocate(PAGE + 1), allocator.allocate(PAGE, charge=owner.charge)
    assert (numa.bytes, owner.bytes) == ({"NUMA buffers": 2 * PAGE}, {"NUMA buffers": PAGE})
    mine.release()
    theirs.release()
    assert (numa.total, owner.total) == (0, 0)


def test_bytes_leave_the_account_with_the_last_view() -> None:
    """Not at the release, if somebody still looks at them."""
    account = Account()
    buffer = NumaAllocator(Made(), account.charge).allocate(PAGE)
    view = buffer.view()
    buffer.release()
    view[0] = 5
    assert account.total == PAGE
    del view
    assert account.total == 0


def test_a_buffer_that_is_dropped_gives_its_memory_back() -> None:
    """Without a release, too."""
    account = Account()
    NumaAllocator(Made(), account.charge).allocate(PAGE)
    gc.collect()
    assert account.total == 0


def test_a_buffer_in_a_ring_goes_with_the_collector() -> None:
    """Whatever else hangs on it."""
    account = Account()
    ring: list[object] = [NumaAllocator(Made(), account.charge).allocate(PAGE).view()]
    ring.append(ring)
    del ring
    assert account.total == PAGE
    gc.collect()
    assert account.total == 0


def test_threads_allocate_side_by_side() -> None:
    """Every buffer is counted once, and the account is even in the end."""
    account = Account()
    allocator = NumaAllocator(Made(), account.charge)
    held: list[NumaBuffer] = []

    def work() -> None:
        for node in (0, 1, 2, 3, None) * 20:
            held.append(allocator.allocate(PAGE, node=node))
            allocator.allocate(1, node=node).release()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert account.total == len(held) * PAGE == 400 * PAGE
    assert (allocator.statistics().allocations, allocator.statistics().redirected) == (800, 160)
    held.clear()
    assert account.total == 0


def test_a_charge_that_is_refused_gives_the_memory_back() -> None:
    """The error of the account reaches the caller, and nothing stays."""

    def full(nbytes: int, label: str) -> Charged:
        raise CeilingExceeded(f"no room for {nbytes} bytes of {label}")

    allocator = NumaAllocator(Made())
    with pytest.raises(CeilingExceeded, match="4096 bytes of NUMA buffers"):
        allocator.allocate(PAGE, charge=full)
    assert allocator.statistics().refused == 1


def test_a_machine_without_memory_is_a_ceiling() -> None:
    """The error says how much was wanted."""
    with pytest.raises(CeilingExceeded, match="Cannot allocate memory") as caught:
        NumaAllocator(Made(fails=True)).allocate(100)
    assert caught.value.wanted_bytes == 100


# -- what is lent ------------------------------------------------------------------------------------------------------


def test_a_released_buffer_gives_no_view() -> None:
    """Releasing twice does nothing; using it afterwards is an error that says what it was."""
    buffer = NumaAllocator(Made()).allocate(100)
    buffer.release()
    buffer.release()
    assert buffer.released
    for use in (buffer.view, lambda: buffer.pages, lambda: buffer.__array_interface__):
        with pytest.raises(LeaseError, match="100 bytes was used after its release"):
            use()
    with pytest.raises(LeaseError, match="after its release"):
        NumaAllocator(Made()).placement(buffer)
    assert "released" in repr(buffer)


def test_a_block_releases_at_its_end() -> None:
    """Also if it ends in an error."""
    buffer = NumaAllocator(Made()).allocate(100)
    with pytest.raises(RuntimeError, match="inside"), buffer:
        raise RuntimeError("inside")
    assert buffer.released


def test_numpy_shares_the_memory() -> None:
    """An array is a view: it keeps the memory, and neither the buffer nor its class."""
    numpy = pytest.importorskip("numpy", reason="numpy is not installed")
    account = Account()
    buffer = NumaAllocator(Made(), account.charge).allocate(8 * 100)
    array = numpy.asarray(buffer)
    words = numpy.frombuffer(buffer.view(), dtype=numpy.uint64)
    array[8] = 7
    assert (array.nbytes, words[1], buffer.view()[8]) == (800, 7, 7)
    buffer.release()
    words[99] = 1
    assert account.total == PAGE
    assert array[99 * 8] == 1
    del array, words
    assert account.total == 0


def test_the_interface_of_arrays_describes_bytes() -> None:
    """What numpy reads, without numpy: as many bytes as there are, in a view that is writable."""
    buffer = NumaAllocator(Made()).allocate(100)
    described = buffer.__array_interface__
    assert (described["shape"], described["typestr"], described["version"]) == ((100,), "|u1", 3)
    described["data"][99] = 3
    assert buffer.view()[99] == 3


def test_placement_and_devices_are_asked_of_the_machine() -> None:
    """The buffer says where it was wanted, the machine where it is."""
    allocator = NumaAllocator(Made(room={1: 60, 0: 0, 3: 0}))
    assert allocator.placement(allocator.allocate(100, node=1)) == {1: 60, None: 40}
    assert allocator.node_of("nvme0n1") == frozenset({3})
    assert allocator.node_of("eth0") is None


def test_statistics_count_what_was_done() -> None:
    """Buffers, bytes, and those that had to prefer another node."""
    allocator = NumaAllocator(Made())
    for node in (None, 0, 2, 9):
        allocator.allocate(1, node=node)
    figures = allocator.statistics()
    assert (figures.allocations, figures.allocated_bytes, figures.redirected, figures.refused) == (4, 4 * PAGE, 2, 0)


# -- the machine that runs ---------------------------------------------------------------------------------------------


def test_this_machine_lends_memory() -> None:
    """With nodes or without: the bytes are there, and whatever the kernel says of them adds up."""
    allocator = local_allocator()
    node = allocator.topology.ids[0] if allocator.topology else None
    for huge in (False, True):
        with allocator.allocate(3 << 20, node=node, huge=huge) as buffer:
            buffer.view()[-1] = 1
            assert sum(allocator.placement(buffer).values()) == 3 << 20


def test_this_machine_keeps_strict_memory_on_a_node() -> None:
    """Where it has nodes and lets them be chosen: every byte is on it, and the kernel says so."""
    allocator = local_allocator()
    topology = allocator.topology
    if topology is None or allocator.machine.abilities.mode == "read-only":
        pytest.skip("this kernel allows no memory policy")
    node = topology.spill_order(topology.ids[0])[0]
    with allocator.allocate((1 << 20) + 1, node=node, strict=True) as buffer:
        assert allocator.placement(buffer) == {node: (1 << 20) + 1}
