"""The plugin alone: these tests need the contract, and no host."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from weighbridge_hookspecs import Fact, PluginContext

from weighbridge_numa import Numa, NumaNode, NumaTopology, open_machine
from weighbridge_numa.abilities import Abilities
from weighbridge_numa.examine import examine
from weighbridge_numa.linux import Linux
from weighbridge_numa.memory import HugePages


class Lease:
    def __init__(self, context: Context, nbytes: int) -> None:
        self.context, self.nbytes = context, nbytes

    def release(self) -> None:
        self.context.charged -= self.nbytes


class Context:
    """As much of a ``PluginContext`` as the plugin uses."""

    def __init__(self) -> None:
        self.tracked: list[object] = []
        self.charged = 0

    def track(self, obj: Any) -> Any:
        self.tracked.append(obj)
        return obj

    def charge(self, nbytes: int, label: str) -> Lease:
        self.charged += nbytes
        return Lease(self, nbytes)


class Registry:
    """As much of ``Capabilities`` as the plugin uses."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[object, str, Mapping[str, str]]] = {}

    def register(self, name: str, provided: object, *, evidence: str, details: Mapping[str, str]) -> None:
        self.entries[name] = (provided, evidence, details)


def numa(context: Context) -> Numa:
    return Numa(cast(PluginContext, context))


def made(topology: NumaTopology | None, abilities: Abilities, **huge: Any) -> Linux:
    offered = HugePages(**{"page_bytes": None, "transparent": None, "reserved": None, **huge})
    return Linux(topology=topology, policies=None, abilities=abilities, huge_pages=offered)


ALLOWED = Abilities(can_bind=True, can_ask=True, evidence="mbind: answers; move_pages: answers")
FORBIDDEN = Abilities(can_bind=False, can_ask=False, evidence="mbind: EPERM; move_pages: EPERM")
TWO = NumaTopology(
    nodes=(
        NumaNode(id=0, total_bytes=3 << 30, cpus=frozenset({0, 1}), pci_devices=("0000:00:1f.0",)),
        NumaNode(id=4, total_bytes=None, cpus=None, is_device_memory=True, tier=22),
    ),
    distances=((10, 40), (41, 10)),
    remarks=("memory of a GPU in 4",),
)


@pytest.mark.parametrize(
    ("topology", "abilities", "details"),
    [
        (TWO, ALLOWED, {"mode": "read-write", "nodes": "0,4", "numa_aware": "yes"}),
        (TWO, FORBIDDEN, {"mode": "read-only", "nodes": "0,4", "numa_aware": "yes"}),
        (None, FORBIDDEN, {"mode": "read-only", "nodes": "none named", "numa_aware": "no"}),
    ],
)
def test_it_offers_the_allocator_and_says_what_it_may(
    monkeypatch: pytest.MonkeyPatch, topology: NumaTopology | None, abilities: Abilities, details: dict[str, str]
) -> None:
    """Under the name ``numa``, also where the calls are forbidden, with the evidence for it."""
    monkeypatch.setattr("weighbridge_numa.open_machine", lambda: made(topology, abilities))
    plugin, registry = numa(Context()), Registry()
    plugin.weighbridge_capabilities(registry)  # type: ignore[arg-type]  # it needs no more of a registry
    provided, evidence, said = registry.entries["numa"]
    assert provided is plugin.allocator
    assert abilities.evidence in evidence
    assert said == details


def test_a_buffer_from_the_hook_is_on_its_account() -> None:
    """Nobody else is known to own it; it leaves the account when it is released."""
    context = Context()
    buffer = numa(context).weighbridge_allocate_buffer(10_000, None)
    assert (buffer.nbytes, buffer.node, len(buffer.view())) == (10_000, None, 10_000)
    assert context.charged == 12_288
    buffer.release()
    assert context.charged == 0


def test_its_host_can_see_whether_the_allocator_outlives_it() -> None:
    """It is the one thing that others get hold of."""
    context = Context()
    plugin = numa(context)
    assert context.tracked == [plugin.allocator]


def facts(machine: Linux, root: Path) -> dict[str, Fact]:
    return {fact.subject: fact for fact in examine(machine, str(root))}


def test_examining_says_what_there_is(tmp_path: Path) -> None:
    """Nodes, distances, policy, the cpuset and huge pages, each with what says so."""
    for name, text in {
        "proc/self/status": "Mems_allowed_list:\t0\n",
        "sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never\n",
        "sys/kernel/mm/transparent_hugepage/hpage_pmd_size": "2097152\n",
        "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages": "3\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
    found = facts(made(TWO, ALLOWED), tmp_path)
    assert {subject: fact.finding for subject, fact in found.items()} == {
        "NUMA nodes": "2 (0,4)",
        "NUMA node 0": "3072 MiB, processors 0-1, 1 PCI devices",
        "NUMA node 4": "memory tier 22, memory of a GPU",
        "NUMA distances": "0: 10 40; 4: 41 10",
        "NUMA memory policy": "read-write",
        "NUMA nodes allowed": "0",
        "huge pages, transparent": "always",
        "huge pages, reserved": "3 free of 2097152 bytes",
    }
    assert "memory of a GPU in 4" in found["NUMA nodes"].evidence
    assert all(fact.evidence for fact in found.values())


def test_examining_an_empty_machine_knows_nothing(tmp_path: Path) -> None:
    """Unknown is None, with what was asked."""
    found = facts(made(None, FORBIDDEN), tmp_path)
    assert found.pop("NUMA memory policy").finding == "read-only"
    assert {fact.finding for fact in found.values()} == {None}
    assert all(fact.evidence for fact in found.values())


def test_this_machine_is_examined() -> None:
    """On the kernel that runs: the same subjects, and as many nodes as it has."""
    plugin = numa(Context())
    subjects = [fact.subject for fact in plugin.weighbridge_examine()]
    topology = open_machine().topology
    assert len(subjects) == len(set(subjects))
    assert [each for each in subjects if each.startswith("NUMA node ")] == [
        f"NUMA node {node}" for node in (topology.ids if topology else ())
    ]
