"""The topology, read from trees in the shapes that real machines have.

A ``Shape`` is what is true of a machine; ``plant`` writes it as its kernel would. The shapes are those of the kinds of
machine that are known to have confused programs: sparse numbers, POWER with gaps and GPUs, an offline node 0, tables of
distances that are all the same, asymmetric, or longer than the machine, kernels that know no lists, and files that end
in NULs.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge_numa.masks import format_list, parse_list
from weighbridge_numa.topology import MAX_NODES, NumaNode, NumaTopology, allowed_nodes, read_topology

MIB = 1 << 20
FOLDER = "sys/devices/system/node"


# -- the shapes of machines --------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Shape:
    """What is true of a machine, and how its kernel writes it."""

    memory: dict[int, int | None]
    """MiB by node; 0 for a node without memory, None where the kernel does not say."""
    cpus: dict[int, frozenset[int]]
    distances: dict[int, dict[int, int]] | None = None
    """Row by row over the nodes that are online."""
    offline: frozenset[int] = frozenset()
    """Nodes that are possible, and not there."""
    rows_over_possible: bool = False
    """Whether a row of distances has an entry for nodes that are offline, too."""
    lists: bool = True
    """False: a kernel that has nothing but bitmaps."""
    masks: bool = True
    """False: a kernel without the files ``online`` and ``possible``."""
    ending: str = "\n"
    stale_folders: bool = False
    """Whether the folder of an offline node is still there."""
    tiers: dict[int, frozenset[int]] = attrs.Factory(dict)
    gpus: dict[str, int] = attrs.Factory(dict)
    pci: dict[str, int] = attrs.Factory(dict)

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(sorted(self.memory))


def as_bitmap(numbers: frozenset[int]) -> str:
    bits, words = sum(1 << number for number in numbers), max(numbers, default=0) // 32 + 1
    return ",".join(f"{bits >> 32 * word & 0xFFFFFFFF:08x}" for word in reversed(range(words)))


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="ascii")


def plant(root: Path, shape: Shape) -> None:
    """Write the files that this machine's kernel would have."""
    folder = root / FOLDER
    possible = sorted({*shape.ids, *shape.offline})
    if shape.masks:
        put(folder / "online", format_list(shape.ids) + shape.ending)
        put(folder / "possible", format_list(possible) + shape.ending)
    for node in possible if shape.stale_folders else shape.ids:
        path = folder / f"node{node}"
        path.mkdir(parents=True)
        cpus = shape.cpus.get(node, frozenset())
        put(path / "cpumap", as_bitmap(cpus) + shape.ending)
        if shape.lists:
            put(path / "cpulist", (format_list(cpus) if cpus else "") + shape.ending)
        if (total := shape.memory.get(node)) is not None:
            put(path / "meminfo", f"\nNode {node} MemTotal: {total * 1024:>15} kB\nNode {node} MemFree: 1 kB\n")
        if shape.distances is not None and node in shape.distances:
            columns = possible if shape.rows_over_possible else list(shape.ids)
            row = [shape.distances[node].get(other, 0xFE) for other in columns]
            put(path / "distance", " ".join(map(str, row)) + shape.ending)
    for tier, nodes in shape.tiers.items():
        put(root / f"sys/devices/virtual/memory_tiering/memory_tier{tier}/nodelist", format_list(nodes) + "\n")
    for address, node in shape.gpus.items():
        put(root / f"proc/driver/nvidia/gpus/{address}/numa_status", f"Node:    {node}\nStatus:  online\n")
    for address, node in shape.pci.items():
        put(root / f"sys/bus/pci/devices/{address}/numa_node", f"{node}\n")


def uniform(ids: tuple[int, ...], near: int, far: int) -> dict[int, dict[int, int]]:
    return {here: {there: near if here == there else far for there in ids} for here in ids}


def cpus_for(ids: tuple[int, ...], each: int = 4) -> dict[int, frozenset[int]]:
    return {node: frozenset(range(number * each, number * each + each)) for number, node in enumerate(ids)}


def machine(ids: tuple[int, ...], **changes: Any) -> Shape:
    """A plain machine: every node has a GiB and four processors, and every other node is equally far away."""
    plain: dict[str, Any] = {
        "memory": dict.fromkeys(ids, 1024),
        "cpus": cpus_for(ids),
        "distances": uniform(ids, 10, 20),
    }
    return Shape(**{**plain, **changes})


def real_machines() -> dict[str, Shape]:
    sparse = (0, 1, 4, 5, 8, 9, 12, 13)
    power = (0, 8, 250, 251, 252, 253, 254, 255)
    gaps = (0, 1, 2, 33, 34, 45, 72, 73)
    four = (0, 1, 2, 3)
    uneven = {0: {0: 10, 1: 21, 2: 31, 3: 41}, 1: {0: 21, 1: 10, 2: 21, 3: 25}}
    uneven |= {2: {0: 31, 1: 21, 2: 10, 3: 17}, 3: {0: 41, 1: 25, 2: 17, 3: 10}}
    return {
        "one node": machine((0,)),
        "two nodes": machine((0, 1), pci={"0000:00:1f.0": 0, "0000:80:00.0": 1, "0000:00:00.0": -1}),
        "sparse ids": machine(sparse),
        "POWER, gaps": machine(gaps, offline=frozenset(range(256)) - set(gaps)),
        "POWER, GPU memory": machine(
            power,
            cpus=cpus_for((0, 8)),
            distances=uniform(power, 10, 80),
            gpus={"0004:04:00.0": 255, "0004:05:00.0": 254},
        ),
        "node 0 is offline": machine((1, 2), offline=frozenset({0}), stale_folders=True),
        "only node 1": machine((1,), offline=frozenset({0})),
        "all distances are 10": machine(four, distances=uniform(four, 10, 10)),
        "asymmetric distances": machine((0, 1), distances={0: {0: 10, 1: 20}, 1: {0: 21, 1: 10}}),
        "uneven distances": machine(four, distances=uneven),
        "rows over what is possible": machine((1,), offline=frozenset({0}), rows_over_possible=True),
        "rows over what is possible, many": machine((1, 3), offline=frozenset({0, 2}), rows_over_possible=True),
        "no distances": machine((0, 1), distances=None),
        "no lists": machine((0, 1), lists=False, cpus=cpus_for((0, 1), 40)),
        "no masks": machine((0, 2), masks=False),
        "NULs at the end": machine((0, 1), ending="\n\0\0\0"),
        "a node without memory": machine((0, 1, 2), memory={0: 1024, 1: 512, 2: 0}),
        "memory without processors": machine((0, 1), cpus=cpus_for((0,)), tiers={4: frozenset({0}), 22: {1}}),
        "a node whose memory is not known": machine((0, 1), memory={0: 1024, 1: None}),
    }


MACHINES = real_machines()


def distances_over(ids: list[int]) -> st.SearchStrategy[dict[int, dict[int, int]]]:
    row = st.fixed_dictionaries({there: st.integers(10, 255) for there in ids})
    return st.fixed_dictionaries(dict.fromkeys(ids, row))


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Machines that nobody has built yet."""
    ids = draw(st.lists(st.integers(0, 300), min_size=1, max_size=6, unique=True))
    offline = draw(st.frozensets(st.integers(0, 300), max_size=4)) - set(ids)
    cpu_count = draw(st.integers(0, 100))
    owners = draw(st.lists(st.sampled_from(ids), min_size=cpu_count, max_size=cpu_count))
    return Shape(
        memory={node: draw(st.none() | st.integers(0, 1 << 20)) for node in ids},
        cpus={node: frozenset(cpu for cpu, owner in enumerate(owners) if owner == node) for node in ids},
        distances=draw(st.none() | distances_over(ids)),
        offline=offline,
        rows_over_possible=draw(st.booleans()),
        lists=draw(st.booleans()),
        masks=draw(st.booleans()),
        ending=draw(st.sampled_from(["\n", "\n\0", "\0\0", ""])),
        tiers=draw(st.dictionaries(st.integers(0, 30), st.frozensets(st.sampled_from(ids), min_size=1), max_size=2)),
    )


DAMAGE = st.none() | st.binary(max_size=40) | st.text("0123456789-, \n\0kBMemTotal:", max_size=40)
"""What may become of a file; None: it goes."""


@contextmanager
def planted(shape: Shape) -> Iterator[Path]:
    root = Path(tempfile.mkdtemp())
    try:
        plant(root, shape)
        yield root
    finally:
        shutil.rmtree(root)


# -- tests -------------------------------------------------------------------------------------------------------------


def check_truth(topology: NumaTopology | None, shape: Shape) -> None:
    """What was read is what is true: no node more, none less, and nothing else about them."""
    assert topology is not None
    assert topology.ids == shape.ids
    for node in topology.nodes:
        total = shape.memory[node.id]
        assert node.total_bytes == (None if total is None else total * MIB)
        assert node.cpus == shape.cpus.get(node.id, frozenset())
    if shape.distances is None:
        assert topology.distances is None
    else:
        for here, there in itertools.product(shape.ids, repeat=2):
            assert topology.distance(here, there) == shape.distances[here][there]


@pytest.mark.parametrize("name", MACHINES)
def test_real_machines_are_read_as_they_are(name: str, tmp_path: Path) -> None:
    """Of every shape that is known: the nodes, their memory, their processors and the distances."""
    plant(tmp_path, MACHINES[name])
    check_truth(read_topology(str(tmp_path)), MACHINES[name])


@settings(deadline=None, max_examples=60)
@given(shapes())
def test_any_machine_is_read_as_it_is(shape: Shape) -> None:
    """Also of those that nobody has built; without masks a row cannot be told to be over possible nodes."""
    if shape.rows_over_possible and not shape.masks:
        shape = attrs.evolve(shape, rows_over_possible=False)
    with planted(shape) as root:
        check_truth(read_topology(str(root)), shape)


@settings(deadline=None, max_examples=120)
@given(shapes(), st.data())
def test_damage_never_raises_and_never_invents_a_node(shape: Shape, data: st.DataObject) -> None:
    """Files are overwritten, emptied or taken away: a node that is reported has its folder or stands in the mask."""
    with planted(shape) as root:
        files = sorted(path for path in root.rglob("*") if path.is_file())
        for path in data.draw(st.lists(st.sampled_from(files), max_size=6, unique=True)) if files else []:
            damage = data.draw(
                st.none() | st.binary(max_size=40) | st.text("0123456789-, \n\0kBMemTotal:", max_size=40)
            )
            if damage is None:
                path.unlink()
            else:
                path.write_bytes(damage if isinstance(damage, bytes) else damage.encode())
        mask = root / FOLDER / "online"
        folders = {int(path.name[4:]) for path in (root / FOLDER).glob("node*")}
        written = mask.read_bytes().decode("utf-8", "replace") if mask.exists() else ""
        topology = read_topology(str(root))
        assert set(topology.ids if topology else ()) <= (parse_list(written, MAX_NODES) or folders)
        for node in topology.nodes if topology else ():
            assert node.total_bytes is None or node.total_bytes >= 0
        if topology and topology.distances:
            assert [len(row) for row in topology.distances] == [len(topology.nodes)] * len(topology.nodes)


def test_an_unreadable_mask_leaves_the_folders(tmp_path: Path) -> None:
    """They are all that old kernels have."""
    plant(tmp_path, machine((0, 2)))
    put(tmp_path / FOLDER / "online", "all of them\n")
    topology = read_topology(str(tmp_path))
    assert topology is not None
    assert topology.ids == (0, 2)


def test_a_folder_of_an_offline_node_is_no_node(tmp_path: Path) -> None:
    """The mask decides."""
    plant(tmp_path, MACHINES["node 0 is offline"])
    assert (tmp_path / FOLDER / "node0").is_dir()
    topology = read_topology(str(tmp_path))
    assert topology is not None
    assert topology.ids == (1, 2)


@pytest.mark.parametrize("text", ["10", "10 20 30", "10 x", "10 0", "10 256", "10 -1", ""])
def test_a_row_that_does_not_fit_makes_distances_unknown(text: str, tmp_path: Path) -> None:
    """Nothing is guessed, and a remark says which row it was."""
    plant(tmp_path, machine((0, 1)))
    put(tmp_path / FOLDER / "node1/distance", text)
    topology = read_topology(str(tmp_path))
    assert topology is not None
    assert topology.distances is None
    assert topology.distance(0, 1) is None
    assert "node 1" in topology.remarks[0]


def test_a_machine_without_information_has_no_topology(tmp_path: Path) -> None:
    """None is not one node: nobody knows."""
    assert read_topology(str(tmp_path)) is None
    (tmp_path / FOLDER).mkdir(parents=True)
    assert read_topology(str(tmp_path)) is None


def test_one_node_is_a_topology_that_is_not_aware(tmp_path: Path) -> None:
    """There is no choice on it; with two there is."""
    for number, (name, aware) in enumerate({"one node": False, "only node 1": False, "two nodes": True}.items()):
        plant(tmp_path / str(number), MACHINES[name])
        topology = read_topology(str(tmp_path / str(number)))
        assert topology is not None
        assert topology.is_numa_aware is aware


def test_pci_devices_are_listed_with_their_node(tmp_path: Path) -> None:
    """One of which the firmware says nothing is with none."""
    plant(tmp_path, MACHINES["two nodes"])
    topology = read_topology(str(tmp_path))
    assert topology is not None
    assert [node.pci_devices for node in topology.nodes] == [("0000:00:1f.0",), ("0000:80:00.0",)]


def test_memory_of_gpus_is_known_as_such(tmp_path: Path) -> None:
    """By the driver's word, or by the numbers that POWER gives it without one; a processor speaks against it."""
    plant(tmp_path, MACHINES["POWER, GPU memory"])
    topology = read_topology(str(tmp_path))
    assert topology is not None
    assert {node.id for node in topology.nodes if node.is_device_memory} == set(range(250, 256))
    plant(tmp_path / "grace", machine((0, 1), cpus=cpus_for((0,)), gpus={"0009:01:00.0": 1}))
    grace = read_topology(str(tmp_path / "grace"))
    assert grace is not None
    assert [node.is_device_memory for node in grace.nodes] == [False, True]
    plant(tmp_path / "busy", machine((0, 250)))
    busy = read_topology(str(tmp_path / "busy"))
    assert busy is not None
    assert not any(node.is_device_memory for node in busy.nodes)


# -- in which order memory is looked for -------------------------------------------------------------------------------


def order(name: str, start: int, root: Path) -> tuple[int, ...]:
    plant(root, MACHINES[name])
    topology = read_topology(str(root))
    assert topology is not None
    return topology.spill_order(start)


@pytest.mark.parametrize(
    ("name", "start", "expected"),
    [
        ("one node", 0, (0,)),
        ("uneven distances", 3, (3, 2, 1, 0)),
        ("uneven distances", 0, (0, 1, 2, 3)),
        ("all distances are 10", 2, (2, 0, 1, 3)),
        ("a node without memory", 2, (0, 1)),
        ("memory without processors", 1, (1, 0)),
        ("no distances", 1, (1, 0)),
        ("POWER, GPU memory", 8, (8, 0)),
        ("POWER, GPU memory", 255, (255, 0, 8)),
        ("a node whose memory is not known", 1, (1, 0)),
        ("two nodes", 7, ()),
    ],
)
def test_memory_is_looked_for_near_first(name: str, start: int, expected: tuple[int, ...], tmp_path: Path) -> None:
    """The node itself, then by distance; never in a node without memory, nor unasked in that of a GPU."""
    assert order(name, start, tmp_path) == expected


def test_without_distances_slow_memory_comes_last() -> None:
    """Nodes with processors first, then those without by tier."""
    cpu = frozenset({0})
    topology = NumaTopology(
        nodes=(
            NumaNode(id=0, total_bytes=MIB, cpus=frozenset(), tier=22),
            NumaNode(id=1, total_bytes=MIB, cpus=cpu, tier=4),
            NumaNode(id=2, total_bytes=MIB, cpus=frozenset(), tier=3),
            NumaNode(id=3, total_bytes=MIB, cpus=cpu, tier=4),
        )
    )
    assert topology.spill_order(3) == (3, 1, 2, 0)


@settings(deadline=None, max_examples=60)
@given(shapes(), st.data())
def test_an_order_has_every_usable_node_once(shape: Shape, data: st.DataObject) -> None:
    """From wherever one begins: no node twice, none that has no memory, and the distances never fall."""
    with planted(shape) as root:
        topology = read_topology(str(root))
    assert topology is not None
    start = data.draw(st.sampled_from(topology.ids))
    found = topology.spill_order(start)
    usable = {n.id for n in topology.nodes if n.total_bytes != 0 and (n.id == start or not n.is_device_memory)}
    assert set(found) == usable
    assert len(found) == len(usable)
    rest = [topology.distance(start, node) or 0 for node in found if node != start]
    assert rest == sorted(rest)


# -- what this process may use -----------------------------------------------------------------------------------------


def test_allowed_nodes_are_those_of_the_cpuset(tmp_path: Path) -> None:
    """As the process's own status says; None where it does not."""
    assert allowed_nodes(str(tmp_path)) is None
    put(tmp_path / "proc/self/status", "Name:\tpython\nMems_allowed:\t00000000,0000000a\nMems_allowed_list:\t1,3\n")
    assert allowed_nodes(str(tmp_path)) == frozenset({1, 3})
    put(tmp_path / "proc/self/status", "Mems_allowed_list:\tall\n")
    assert allowed_nodes(str(tmp_path)) is None
