"""The NUMA allocator in a machine with four nodes: what it says about memory is compared with what the kernel says."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any, Final

import pytest

from .booting import bootable
from .machine import DISK_NODE, DISTANCES, MEMORY, MIB, PROCESSORS, Machine, machine

pytestmark = [pytest.mark.vm, pytest.mark.checkout]

BLOCK: Final = 24 * MIB
FAR: Final = 3
"""The node without a processor; node 1 is nearer to it than node 0."""
BEYOND: Final = 64 * MIB
"""So much more than a node has."""


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest) -> Iterator[Machine]:
    with machine(bootable(request.config)) as started:
        yield started


@pytest.fixture(scope="module")
def seen(running: Machine) -> Any:
    return running.ask("numa:topology")


def test_topology_has_what_qemu_was_told(seen: Any) -> None:
    """Nodes with and without memory, with and without processors, their distances; and memory can be placed."""
    kernel_bytes = 64 * MIB
    nodes = {int(node): facts for node, facts in seen["nodes"].items()}
    assert set(nodes) == set(range(len(DISTANCES)))
    for node, facts in nodes.items():
        assert abs(facts["bytes"] - MEMORY.get(node, 0)) < kernel_bytes
        assert facts["cpus"] == ([PROCESSORS[node]] if node in PROCESSORS else [])
    assert nodes[2]["bytes"] == 0
    assert seen["distances"] == [list(row) for row in DISTANCES]
    assert seen["is_numa_aware"]
    assert seen["mode"] == "read-write"


def test_disk_is_among_the_devices_of_its_node(seen: Any) -> None:
    """The PCI devices behind the bus of that node are listed there and nowhere else."""
    assert seen["nodes"][str(DISK_NODE)]["devices"]
    assert not any(facts["devices"] for node, facts in seen["nodes"].items() if node != str(DISK_NODE))


@pytest.mark.parametrize("node", sorted(MEMORY))
def test_buffer_is_on_the_node_that_was_asked_for(running: Machine, node: int) -> None:
    """Every byte of it, says the plugin, and so says the kernel's own list of mappings."""
    answer = running.ask("numa:place", nbytes=BLOCK, node=node)
    assert answer["placement"] == answer["kernel"] == {str(node): BLOCK}


def test_node_without_memory_is_replaced_by_the_nearest(running: Machine) -> None:
    """Node 2 has none; node 0 is nearest to it."""
    answer = running.ask("numa:place", nbytes=BLOCK, node=2)
    assert answer["placement"] == answer["kernel"] == {"0": BLOCK}
    assert answer["preferred"] == 0


def test_what_does_not_fit_goes_to_the_nearest_node(running: Machine) -> None:
    """Most of the buffer is on its node, the rest on the next by distance and on no other."""
    nbytes = MEMORY[FAR] + BEYOND
    answer = running.ask("numa:place", nbytes=nbytes, node=FAR)
    assert answer["placement"] == answer["kernel"]
    assert set(answer["placement"]) == {str(FAR), "1"}
    assert sum(answer["placement"].values()) == nbytes
    assert answer["placement"][str(FAR)] > 0.8 * answer["free"][str(FAR)]


def test_strict_buffer_is_all_on_its_node(running: Machine) -> None:
    """On the node without a processor, where nothing would be by itself."""
    answer = running.ask("numa:place", nbytes=BLOCK, node=FAR, strict=True)
    assert answer["placement"] == answer["kernel"] == {str(FAR): BLOCK}


def test_binding_to_a_full_node_kills(running: Machine) -> None:
    """The trap that strict avoids is there: the kernel kills who writes to more than the bound node has."""
    arguments = {"nbytes": MEMORY[FAR] + BEYOND, "node": FAR}
    assert running.call("numa:bind_over", arguments) == {"killed": signal.SIGKILL}
    assert "Out of memory" in running.console()


def test_strict_buffer_that_does_not_fit_is_refused_and_nobody_is_killed(running: Machine) -> None:
    """The error says where the bytes are, the process goes on, and the memory is free again."""
    kills = running.console().count("Out of memory")
    answer = running.ask("numa:place", nbytes=MEMORY[FAR] + BEYOND, node=FAR, strict=True)
    assert answer["refused"] == "LeaseError"
    assert f"bytes on node {FAR}" in answer["message"]
    assert answer["free_after"][str(FAR)] > answer["free"][str(FAR)] - 8 * MIB
    assert running.console().count("Out of memory") == kills


@pytest.mark.parametrize("node", [2, 9])
def test_strict_on_a_node_without_memory_is_refused(running: Machine, node: int) -> None:
    """One that has no memory, and one that does not exist."""
    assert running.ask("numa:place", nbytes=BLOCK, node=node, strict=True)["refused"] == "LeaseError"


def test_reserved_huge_pages_come_from_their_node(running: Machine) -> None:
    """Pages that node 1 has set aside are taken, and all of them are there."""
    answer = running.ask("numa:place_reserved", nbytes=8 * MIB, node=1, reserved=8)
    assert answer["pages"] == "reserved"
    assert answer["placement"] == answer["kernel"] == {"1": 8 * MIB}


def test_without_reserved_huge_pages_transparent_ones_are_taken(running: Machine) -> None:
    """Nobody has set any aside: the buffer comes all the same, on its node."""
    answer = running.ask("numa:place", nbytes=8 * MIB, node=1, huge=True)
    assert answer["pages"] == "transparent"
    assert answer["placement"] == {"1": 8 * MIB}


def test_process_that_may_not_use_a_node_gets_another(running: Machine) -> None:
    """In a control group of node 1, memory for node 0 is on node 1."""
    answer = running.ask("numa:place_confined", nbytes=BLOCK, node=0, allowed=1)
    assert answer["placement"] == answer["kernel"] == {"1": BLOCK}


def test_devices_and_files_have_the_node_of_their_disk(running: Machine) -> None:
    """A disk, its partition, a file on it; unknown where the firmware is silent, and where there is no disk."""
    answer = running.ask("numa:devices")
    unknown = ("vda", "/dev/vda", "/tmp")
    assert {name: answer.pop(name) for name in unknown} == dict.fromkeys(unknown)
    assert set(map(tuple, answer.values())) == {(DISK_NODE,)}


def test_host_lends_from_nodes_and_unloads_clean(running: Machine) -> None:
    """Loaded by a host the buffer is on its node and on the account while it is held, and the plugin goes whole."""
    answer = running.ask("numa:in_host", nbytes=BLOCK, node=FAR)
    assert answer["placement"] == {str(FAR): BLOCK}
    assert answer["grown"] >= BLOCK
    assert answer["left"] < BLOCK
    assert (answer["state"], answer["survivors"]) == ("unloaded", 0)
    assert answer["details"]["nodes"] == "0-3"


def test_doctor_knows_this_machine(running: Machine) -> None:
    """Emulated by QEMU, with a balloon that reports free pages, and four nodes; everything has evidence."""
    facts = json.loads(running.ask("command:doctor"))["facts"]
    found = {fact["subject"]: fact["finding"] for fact in facts}
    assert found["hypervisor"].startswith("qemu-tcg")
    assert (found["balloon"], found["page reporting"]) == ("yes", "yes")
    assert found["NUMA nodes"] == "4 (0-3)"
    assert all(fact["evidence"] for fact in facts)
