"""The machine that the other tests here run in: it is what QEMU was told, can be measured, and leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from .booting import bootable
from .image import Image
from .machine import (
    DISK_NODE,
    DISTANCES,
    MEMORY,
    MIB,
    PROCESSORS,
    SETTLE_SECONDS,
    TOTAL,
    Machine,
    MachineFailed,
    Message,
    eventually,
    machine,
)

pytestmark = [pytest.mark.vm, pytest.mark.checkout]

KERNEL_BYTES: Final = 64 * MIB
"""The firmware and the kernel's own image are no memory of a node: at most so much is missing."""


@pytest.fixture(scope="module")
def image(request: pytest.FixtureRequest) -> Image:
    return bootable(request.config)


@pytest.fixture(scope="module")
def running(image: Image) -> Iterator[Machine]:
    with machine(image) as started:
        yield started


@pytest.fixture(scope="module")
def seen(running: Machine) -> Any:
    return running.ask("kernel:machine")


def test_nodes_have_the_memory_that_qemu_was_given(seen: Any) -> None:
    """Three nodes have what QEMU was told, less what the firmware keeps, and the fourth has none."""
    sizes = {int(name): node["kib"] * 1024 for name, node in seen["nodes"].items()}
    assert set(sizes) == set(range(len(DISTANCES)))
    assert sizes.pop(2) == 0
    for node, size in sizes.items():
        assert MEMORY[node] - KERNEL_BYTES < size < MEMORY[node] + KERNEL_BYTES


def test_nodes_have_the_processors_and_distances_that_qemu_was_given(seen: Any) -> None:
    """One processor each, none on the last node; every row of distances is uneven."""
    assert {int(name): node["cpus"] for name, node in seen["nodes"].items()} == {
        node: str(PROCESSORS.get(node, "")) for node in range(len(DISTANCES))
    }
    for node, row in enumerate(DISTANCES):
        assert seen["nodes"][str(node)]["distances"] == " ".join(map(str, row))


def test_disk_is_on_a_node_other_than_the_first(seen: Any) -> None:
    """The bus of the NVMe disk belongs to a node, and that disk has a partition."""
    assert seen["disks"]["nvme0n1"] == str(DISK_NODE)
    assert "nvme0n1p1" in seen["disks"]


def test_balloon_reports_free_pages(seen: Any) -> None:
    """There is one balloon; it has agreed on bit 5, reporting of free pages, and not on bit 2, deflating on its own."""
    (features,) = seen["features"]
    assert (features[5], features[2]) == ("1", "0")
    assert int(seen["reporting_order"]) >= 0


def test_balloon_goes_where_it_is_told_and_both_sides_see_it(running: Machine) -> None:
    """What QEMU says is left to the guest, and the guest says is in the balloon, add up to the whole machine."""

    def is_there(wanted: int) -> bool:
        return running.qmp.memory() == wanted

    for wanted in (TOTAL - 300 * MIB, TOTAL):
        running.qmp.set_memory(wanted)
        assert eventually(partial(is_there, wanted), SETTLE_SECONDS)
        assert running.ask("kernel:memory")["Ballooned"] == TOTAL - wanted


def test_memory_that_the_guest_takes_and_gives_back_is_seen_outside(running: Machine) -> None:
    """QEMU's resident set grows by what a program in the guest writes to, and falls by most of it once that is free."""
    nbytes = 256 * MIB
    sizes = [running.settled()]

    def on_event(message: Message) -> None:
        sizes.append(running.resident())
        running.tell(go="on")

    arguments = {"nbytes": nbytes, "seconds": SETTLE_SECONDS}
    assert running.call("touch:memory", arguments, on_event) == {"result": True}
    before, held = sizes
    assert held - before > 0.75 * nbytes
    # The rest is in pieces that are too small to be reported.
    assert eventually(lambda: held - running.resident() > 0.75 * nbytes, SETTLE_SECONDS)


def test_what_goes_wrong_inside_is_told(running: Machine) -> None:
    """A function that raises is answered with its traceback, and one that is killed with the signal."""
    assert "RuntimeError: as asked" in running.call("kernel:fail")["error"]
    assert running.call("kernel:die") == {"killed": signal.SIGKILL}
    with pytest.raises(MachineFailed, match="as asked"):
        running.ask("kernel:fail")


def test_machine_that_hangs_is_killed(image: Image) -> None:
    """A machine that says nothing in time is killed, and the error says so."""
    with pytest.raises(MachineFailed, match=r"it was killed after 0\.2 s"), machine(image, seconds=0.2):
        pass


@contextmanager
def holder(image: Image) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a machine of its own."""
    command = [sys.executable, "-P", "-m", "vm.hold", str(image.root), str(image.kernel), str(image.initrd)]
    variables = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=variables, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def held_by(process: subprocess.Popen[str]) -> Any:
    """What a holder says of its machine."""
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def is_qemu(pid: int) -> bool:
    """Whether that process is there and not only waited for."""
    try:
        return b"qemu" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False


def test_two_machines_run_at_once_and_nothing_is_left_of_them(image: Image) -> None:
    """Ctrl-C ends QEMU and removes its files; if the process itself is killed, QEMU ends too."""
    with holder(image) as first, holder(image) as second:
        one, other = held_by(first), held_by(second)
        assert is_qemu(one["pid"])
        assert is_qemu(other["pid"])
        assert one["folder"] != other["folder"]

        first.send_signal(signal.SIGINT)
        assert first.wait() != 0
        assert not is_qemu(one["pid"])
        assert not Path(one["folder"]).exists()
        assert is_qemu(other["pid"])

        second.kill()
        assert eventually(lambda: not is_qemu(other["pid"]), SETTLE_SECONDS)
        # Nobody could remove these.
        for file in Path(other["folder"]).iterdir():
            file.unlink()
        Path(other["folder"]).rmdir()


def test_machine_switches_itself_off(running: Machine) -> None:
    """Told to leave, the guest ends and QEMU with it. This is the last test of this machine."""
    assert running.leave() == 0
    assert "the agent ended with 0" in running.console()
