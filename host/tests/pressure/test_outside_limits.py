"""Limits from outside: trees like those of real machines, anything that a file may say, and groups of a real kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge.limits import (
    Mount,
    OutsideLimit,
    OutsideLimits,
    parse_groups,
    parse_limit,
    parse_mounts,
    parse_summary,
    path_below,
)
from weighbridge.units import GIB, KIB, MIB

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the trees have names that Windows does not allow")
LINUX: Final = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="control groups are Linux's")

# What a file says where there is no limit: PAGE_COUNTER_MAX with pages of 4 KiB and of 64 KiB.
NONE_4K: Final = str(2**63 - 4 * KIB)
NONE_64K: Final = str(2**63 - 64 * KIB)


def summary(limit: str | int) -> str:
    """A memory.stat of version 1, shortened."""
    lines = ("cache 1", "rss 2", f"hierarchical_memory_limit {limit}", f"hierarchical_memsw_limit {NONE_4K}")
    return "\n".join((*lines, "total_cache 1", "total_rss 2"))


PROC: Final = "25 30 0:23 / /proc rw,nosuid,nodev,noexec,relatime shared:14 - proc proc rw"
V2: Final = "35 24 0:30 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1_CPU: Final = "33 26 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:11 - cgroup cgroup rw,cpu,cpuacct"
V1: Final = "36 26 0:32 / /sys/fs/cgroup/memory rw,relatime shared:16 - cgroup cgroup rw,memory"
V1_POINT: Final = "/sys/fs/cgroup/memory"
DOCKER: Final = "/docker/1f0c2d3e4a5b60718293a4b5c6d7e8f90123456789abcdef0123456789abcdef"
POD: Final = "/kubepods/burstable/pod8d3c5a9e-2f41-4b6e-9c1d-7e0f6a5b4c3d"
POD_SLICE: Final = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod8d3c5a9e_2f41_4b6e.slice"


class Machine:
    """A file system with what the kernel would show of control groups, in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, content: str) -> None:
        """Replace a file as the kernel changes one: nobody reads half of it."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f"{file.name}.draft")
        draft.write_text(f"{content}\n", encoding="utf-8", errors="surrogateescape", newline="\n")
        draft.replace(file)

    def move(self, *lines: str) -> None:
        self.write("/proc/self/cgroup", "\n".join(lines))

    def mount(self, *lines: str) -> None:
        self.write("/proc/self/mountinfo", "\n".join((PROC, *lines)))

    def limit(self, source: str, nbytes: int) -> OutsideLimit:
        return OutsideLimit(nbytes=nbytes, source=f"{self.root}{source}")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


# -- machines as they are ----------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Shape:
    """What one kind of machine shows to a process, and what follows from it."""

    name: str
    groups: tuple[str, ...]
    mounts: tuple[str, ...]
    files: Mapping[str, str]
    lowest: tuple[str, int] | None


USER: Final = "/user.slice/user-1000.slice/user@1000.service/app.slice"
SHAPES: Final = [
    Shape(
        name="a desktop with systemd, and a limit on all applications of a user",
        groups=(f"0::{USER}/app-editor-4242.scope",),
        mounts=(V2,),
        files={
            f"/sys/fs/cgroup{USER}/app-editor-4242.scope/memory.max": "max",
            f"/sys/fs/cgroup{USER}/app-editor-4242.scope/memory.high": "max",
            f"/sys/fs/cgroup{USER}/memory.max": str(6 * GIB),
            f"/sys/fs/cgroup{USER}/memory.high": str(5 * GIB),
            "/sys/fs/cgroup/user.slice/user-1000.slice/memory.max": str(7 * GIB),
            "/sys/fs/cgroup/user.slice/memory.max": "max",
            "/sys/fs/cgroup/user.slice/user-1001.slice/memory.max": str(1 * MIB),
        },
        lowest=(f"/sys/fs/cgroup{USER}/memory.high", 5 * GIB),
    ),
    Shape(
        name="a desktop with systemd and no limit",
        groups=(f"0::{USER}/app-editor-4242.scope",),
        mounts=(V2,),
        files={f"/sys/fs/cgroup{USER}/memory.max": "max", f"/sys/fs/cgroup{USER}/memory.high": "max"},
        lowest=None,
    ),
    Shape(
        name="docker on version 2 with a namespace of its own",
        groups=("0::/",),
        mounts=("1123 1122 0:29 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate",),
        files={"/sys/fs/cgroup/memory.max": str(256 * MIB), "/sys/fs/cgroup/memory.high": "max"},
        lowest=("/sys/fs/cgroup/memory.max", 256 * MIB),
    ),
    Shape(
        name="docker on version 1 without a namespace",
        groups=(f"11:cpu,cpuacct:{DOCKER}", f"4:memory:{DOCKER}", f"1:name=systemd:{DOCKER}", "0::/system.slice"),
        mounts=(
            f"741 738 0:29 {DOCKER} /sys/fs/cgroup/cpu,cpuacct ro,relatime master:11 - cgroup cgroup rw,cpu,cpuacct",
            f"745 738 0:32 {DOCKER} {V1_POINT} ro,nosuid,relatime master:16 - cgroup cgroup rw,memory",
        ),
        files={
            f"{V1_POINT}/memory.limit_in_bytes": str(128 * MIB),
            "/sys/fs/cgroup/cpu,cpuacct/memory.limit_in_bytes": str(1 * MIB),
        },
        lowest=(f"{V1_POINT}/memory.limit_in_bytes", 128 * MIB),
    ),
    Shape(
        name="a worker below docker's group on version 1",
        groups=(f"4:memory:{DOCKER}/worker",),
        mounts=(f"745 738 0:32 {DOCKER} {V1_POINT} rw,relatime master:16 - cgroup cgroup rw,memory",),
        files={
            f"{V1_POINT}/memory.limit_in_bytes": str(128 * MIB),
            f"{V1_POINT}/worker/memory.limit_in_bytes": str(96 * MIB),
        },
        lowest=(f"{V1_POINT}/worker/memory.limit_in_bytes", 96 * MIB),
    ),
    Shape(
        name="docker on version 1 with a namespace of its own",
        groups=("4:memory:/",),
        mounts=(f"745 738 0:32 / {V1_POINT} ro,relatime - cgroup cgroup rw,memory",),
        files={f"{V1_POINT}/memory.limit_in_bytes": str(64 * MIB)},
        lowest=(f"{V1_POINT}/memory.limit_in_bytes", 64 * MIB),
    ),
    Shape(
        name="a burstable pod on version 1, seen from its node: the limit is the pod's",
        groups=(f"6:cpu,memory:{POD}/4c5d6e", f"5:devices:{POD}/4c5d6e"),
        mounts=("36 26 0:32 / /sys/fs/cgroup/cpu,memory rw,relatime shared:16 - cgroup cgroup rw,cpu,memory",),
        files={
            f"/sys/fs/cgroup/cpu,memory{POD}/4c5d6e/memory.limit_in_bytes": NONE_4K,
            f"/sys/fs/cgroup/cpu,memory{POD}/memory.limit_in_bytes": str(512 * MIB),
            "/sys/fs/cgroup/cpu,memory/kubepods/burstable/memory.limit_in_bytes": NONE_4K,
            "/sys/fs/cgroup/cpu,memory/kubepods/memory.limit_in_bytes": str(30 * GIB),
            "/sys/fs/cgroup/cpu,memory/memory.limit_in_bytes": NONE_4K,
        },
        lowest=(f"/sys/fs/cgroup/cpu,memory{POD}/memory.limit_in_bytes", 512 * MIB),
    ),
    Shape(
        name="a burstable pod on version 1, seen from the container",
        groups=(f"6:memory:{POD}/4c5d6e",),
        mounts=(f"745 738 0:32 {POD}/4c5d6e {V1_POINT} ro,relatime master:16 - cgroup cgroup rw,memory",),
        files={f"{V1_POINT}/memory.limit_in_bytes": str(300 * MIB)},
        lowest=(f"{V1_POINT}/memory.limit_in_bytes", 300 * MIB),
    ),
    Shape(
        name="a container without a limit on version 1: its pod, which no mount shows, has one",
        groups=(f"6:memory:{POD}/4c5d6e",),
        mounts=(f"745 738 0:32 {POD}/4c5d6e {V1_POINT} ro,relatime master:16 - cgroup cgroup rw,memory",),
        files={f"{V1_POINT}/memory.limit_in_bytes": NONE_4K, f"{V1_POINT}/memory.stat": summary(300 * MIB)},
        lowest=(f"{V1_POINT}/memory.stat", 300 * MIB),
    ),
    Shape(
        name="a worker below a container of such a pod on version 1: the summary of its own group counts",
        groups=(f"6:memory:{POD}/4c5d6e/worker",),
        mounts=(f"745 738 0:32 {POD}/4c5d6e {V1_POINT} ro,relatime master:16 - cgroup cgroup rw,memory",),
        files={
            f"{V1_POINT}/worker/memory.limit_in_bytes": str(400 * MIB),
            f"{V1_POINT}/worker/memory.stat": summary(200 * MIB),
            f"{V1_POINT}/memory.limit_in_bytes": NONE_4K,
            f"{V1_POINT}/memory.stat": summary(200 * MIB),
        },
        lowest=(f"{V1_POINT}/worker/memory.stat", 200 * MIB),
    ),
    Shape(
        name="a limit on version 1 that can be seen: the file that sets it is named, not the summary",
        groups=("4:memory:/a/b",),
        mounts=(V1,),
        files={
            f"{V1_POINT}/a/b/memory.limit_in_bytes": NONE_4K,
            f"{V1_POINT}/a/b/memory.stat": summary(70 * MIB),
            f"{V1_POINT}/a/memory.limit_in_bytes": str(70 * MIB),
        },
        lowest=(f"{V1_POINT}/a/memory.limit_in_bytes", 70 * MIB),
    ),
    Shape(
        name="version 1 without any limit, as its summary says as well",
        groups=("4:memory:/a",),
        mounts=(V1,),
        files={f"{V1_POINT}/a/memory.limit_in_bytes": NONE_4K, f"{V1_POINT}/a/memory.stat": summary(NONE_4K)},
        lowest=None,
    ),
    Shape(
        name="version 2, whose memory.stat is another file",
        groups=("0::/a",),
        mounts=(V2,),
        files={"/sys/fs/cgroup/a/memory.max": "max", "/sys/fs/cgroup/a/memory.stat": summary(1)},
        lowest=None,
    ),
    Shape(
        name="a burstable pod on version 2 with the namespace of its node: nested slices",
        groups=(f"0::{POD_SLICE}/cri-containerd-4c5d6e.scope",),
        mounts=(V2,),
        files={
            f"/sys/fs/cgroup{POD_SLICE}/cri-containerd-4c5d6e.scope/memory.max": "max",
            f"/sys/fs/cgroup{POD_SLICE}/cri-containerd-4c5d6e.scope/memory.high": str(500 * MIB),
            f"/sys/fs/cgroup{POD_SLICE}/memory.max": str(400 * MIB),
            "/sys/fs/cgroup/kubepods.slice/memory.max": str(30 * GIB),
        },
        lowest=(f"/sys/fs/cgroup{POD_SLICE}/memory.max", 400 * MIB),
    ),
    Shape(
        name="a hybrid machine: version 2 is mounted, and the memory controller is version 1's",
        groups=("9:memory:/user.slice", "1:name=systemd:/user.slice/session-2.scope", "0::/user.slice/session-2.scope"),
        mounts=(
            "31 26 0:27 / /sys/fs/cgroup/unified rw,relatime shared:8 - cgroup2 cgroup2 rw,nsdelegate",
            "32 26 0:28 / /sys/fs/cgroup/systemd rw,relatime shared:9 - cgroup cgroup rw,xattr,name=systemd",
            V1_CPU,
            V1,
        ),
        files={
            f"{V1_POINT}/user.slice/memory.limit_in_bytes": str(2 * GIB),
            f"{V1_POINT}/memory.limit_in_bytes": NONE_64K,
            "/sys/fs/cgroup/unified/user.slice/session-2.scope/memory.pressure": "some avg10=0.00",
        },
        lowest=(f"{V1_POINT}/user.slice/memory.limit_in_bytes", 2 * GIB),
    ),
    Shape(
        name="both versions with limits: the lower one counts",
        groups=("9:memory:/a", "0::/b"),
        mounts=("31 26 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw", V1),
        files={f"{V1_POINT}/a/memory.limit_in_bytes": "2000", "/sys/fs/cgroup/unified/b/memory.max": "1000"},
        lowest=("/sys/fs/cgroup/unified/b/memory.max", 1000),
    ),
    Shape(
        name="a Raspberry Pi with version 2: the memory controller is off",
        groups=("0::/system.slice/ssh.service",),
        mounts=(V2,),
        files={"/sys/fs/cgroup/system.slice/ssh.service/cgroup.controllers": "cpuset cpu io pids"},
        lowest=None,
    ),
    Shape(
        name="a Raspberry Pi with version 1: the memory controller is off",
        groups=("7:cpu,cpuacct:/", "1:name=systemd:/system.slice/ssh.service"),
        mounts=(V1_CPU,),
        files={"/sys/fs/cgroup/cpu,cpuacct/cpu.shares": "1024"},
        lowest=None,
    ),
    Shape(
        name="a mount point with a space and a backslash",
        groups=("0::/with space",),
        mounts=(r"35 24 0:30 / /mnt/control\040groups\134here rw - cgroup2 cgroup2 rw",),
        files={"/mnt/control groups\\here/with space/memory.max": "1234"},
        lowest=("/mnt/control groups\\here/with space/memory.max", 1234),
    ),
    Shape(
        name="a group with colons in its name, and hierarchies that are only named like memory",
        groups=("4:memory:/a:b:c", "3:name=memory:/other", "2:memoryless:/other"),
        mounts=(V1, "37 26 0:33 / /sys/fs/cgroup/named rw - cgroup cgroup rw,xattr,name=memory"),
        files={
            "/sys/fs/cgroup/named/a:b:c/memory.limit_in_bytes": "1",
            f"{V1_POINT}/a:b:c/memory.limit_in_bytes": "4321",
            f"{V1_POINT}/other/memory.limit_in_bytes": "1",
        },
        lowest=(f"{V1_POINT}/a:b:c/memory.limit_in_bytes", 4321),
    ),
    Shape(
        name="a process outside of its namespace: the mount point is all there is to look at",
        groups=("0::/../neighbour",),
        mounts=(V2,),
        files={"/sys/fs/cgroup/memory.max": "5000", "/sys/fs/neighbour/memory.max": "1"},
        lowest=("/sys/fs/cgroup/memory.max", 5000),
    ),
    Shape(
        name="a mount from outside of the namespace, above the group",
        groups=("0::/../neighbour",),
        mounts=("35 24 0:30 /.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw",),
        files={"/sys/fs/cgroup/memory.max": "5000", "/sys/fs/cgroup/neighbour/memory.max": "4000"},
        lowest=("/sys/fs/cgroup/neighbour/memory.max", 4000),
    ),
    Shape(
        name="another group's files mounted beside one's own: they say nothing about this process",
        groups=("0::/mine",),
        mounts=("34 24 0:30 /other /watched rw - cgroup2 cgroup2 rw", V2),
        files={"/watched/memory.max": "1", "/sys/fs/cgroup/mine/memory.max": "3000"},
        lowest=("/sys/fs/cgroup/mine/memory.max", 3000),
    ),
    Shape(
        name="one mount over another: the last one is what can be seen",
        groups=("0::/mine/deep",),
        mounts=("34 24 0:30 /mine /sys/fs/cgroup rw - cgroup2 cgroup2 rw", V2),
        files={"/sys/fs/cgroup/deep/memory.max": "1", "/sys/fs/cgroup/mine/deep/memory.max": "3000"},
        lowest=("/sys/fs/cgroup/mine/deep/memory.max", 3000),
    ),
    Shape(
        name="a group whose name begins like the mount's root",
        groups=("0::/mine-too",),
        mounts=("34 24 0:30 /mine /sys/fs/cgroup rw - cgroup2 cgroup2 rw",),
        files={"/sys/fs/cgroup/memory.max": "2000", "/sys/fs/cgroup/-too/memory.max": "1"},
        lowest=("/sys/fs/cgroup/memory.max", 2000),
    ),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_lowest_limit_of_a_machine_is_found(shape: Shape, machine: Machine) -> None:
    """On a machine of each kind the limit that holds is found, with the file that says it, or that there is none."""
    machine.move(*shape.groups)
    machine.mount(*shape.mounts)
    for file, content in shape.files.items():
        machine.write(file, content)
    assert OutsideLimits(machine.root).lowest() == (machine.limit(*shape.lowest) if shape.lowest else None)


def test_machine_without_control_groups_has_no_limit(machine: Machine) -> None:
    """Neither an empty folder nor a system whose kernel has no control groups puts a limit on the process."""
    limits = OutsideLimits(machine.root)
    assert limits.lowest() is None
    machine.mount()
    assert limits.lowest() is None
    assert limits.files() == ()


def test_root_that_is_no_path_is_refused() -> None:
    """A number for the root is an error at once, and not a machine without limits."""
    with pytest.raises(TypeError, match="int"):
        OutsideLimits(5)  # type: ignore[arg-type]


# -- what changes while it runs ----------------------------------------------------------------------------------------


@pytest.fixture
def grouped(machine: Machine) -> Machine:
    """A process in the group /outer/inner, with a limit on each."""
    machine.move("0::/outer/inner")
    machine.mount(V2)
    machine.write("/sys/fs/cgroup/outer/inner/memory.max", "3000")
    machine.write("/sys/fs/cgroup/outer/memory.max", "4000")
    return machine


INNER: Final = "/sys/fs/cgroup/outer/inner/memory.max"
OUTER: Final = "/sys/fs/cgroup/outer/memory.max"


def test_limit_changed_at_run_time_is_seen(grouped: Machine) -> None:
    """Each call reads the limits anew: a lower one, one of zero bytes, and one that was taken away."""
    limits = OutsideLimits(grouped.root)
    assert limits.lowest() == grouped.limit(INNER, 3000)
    grouped.write(OUTER, "2000")
    assert limits.lowest() == grouped.limit(OUTER, 2000)
    grouped.write(OUTER, "max")
    grouped.write(INNER, "0")
    assert limits.lowest() == grouped.limit(INNER, 0)
    grouped.write(INNER, "max")
    assert limits.lowest() is None


def test_process_moved_into_another_group_is_seen(grouped: Machine) -> None:
    """After a move the limits of the new group count, and those of the old one do not."""
    limits = OutsideLimits(grouped.root)
    assert limits.lowest() == grouped.limit(INNER, 3000)
    grouped.write("/sys/fs/cgroup/elsewhere/memory.high", "9000")
    grouped.move("0::/elsewhere")
    assert limits.lowest() == grouped.limit("/sys/fs/cgroup/elsewhere/memory.high", 9000)
    grouped.move("0::/outer/inner")
    assert limits.lowest() == grouped.limit(INNER, 3000)


def test_file_created_later_is_read(grouped: Machine) -> None:
    """A controller that is switched on while the process runs brings files, and they count."""
    limits = OutsideLimits(grouped.root)
    assert limits.lowest() == grouped.limit(INNER, 3000)
    grouped.write("/sys/fs/cgroup/outer/memory.high", "1000")
    assert limits.lowest() == grouped.limit("/sys/fs/cgroup/outer/memory.high", 1000)


@pytest.mark.parametrize("content", ["", "max", "unlimited", "-1", "12 MiB", "1_000", "1e3", "٣٠٠", "\0", "9" * 5000])
def test_file_without_a_number_counts_for_nothing(content: str, grouped: Machine) -> None:
    """What is no number of bytes is neither a limit nor an error, and the other limits still count."""
    grouped.write(INNER, content)
    assert OutsideLimits(grouped.root).lowest() == grouped.limit(OUTER, 4000)


def test_file_that_cannot_be_read_counts_for_nothing(grouped: Machine) -> None:
    """A file that is gone, and one that cannot be read as one, leave the others as they are."""
    limits = OutsideLimits(grouped.root)
    inner = grouped.root / INNER.lstrip("/")
    inner.unlink()
    assert limits.lowest() == grouped.limit(OUTER, 4000)
    inner.mkdir()
    assert limits.lowest() == grouped.limit(OUTER, 4000)


@LINUX
def test_process_without_descriptors_finds_its_limit_later(grouped: Machine) -> None:
    """While no file can be opened the limit is unknown, and afterwards it is known: nothing wrong was kept."""
    import resource

    limits = OutsideLimits(grouped.root)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        unknown = limits.lowest()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert unknown is None
    assert limits.lowest() == grouped.limit(INNER, 3000)


def test_mounts_that_could_not_be_read_are_read_later(grouped: Machine) -> None:
    """Where the mounts are unknown at the first call, they are looked at again in the next one."""
    limits = OutsideLimits(grouped.root)
    (grouped.root / "proc/self/mountinfo").unlink()
    assert limits.lowest() is None
    grouped.mount(V2)
    assert limits.lowest() == grouped.limit(INNER, 3000)


def test_threads_see_one_group_or_the_other(grouped: Machine) -> None:
    """While the process is moved to and fro under many threads, each answer is the limit of one of its groups."""
    grouped.write("/sys/fs/cgroup/elsewhere/memory.max", "9000")
    limits = OutsideLimits(grouped.root)
    seen: set[OutsideLimit | None] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.add(limits.lowest())

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        grouped.move("0::/elsewhere")
        limits.lowest()
        grouped.move("0::/outer/inner")
        limits.lowest()
    done.set()
    for thread in threads:
        thread.join()
    assert seen
    assert seen <= {grouped.limit(INNER, 3000), grouped.limit("/sys/fs/cgroup/elsewhere/memory.max", 9000)}
    assert limits.lowest() == grouped.limit(INNER, 3000)


@LINUX
def test_many_looks_leave_no_descriptor_open(grouped: Machine) -> None:
    """After rounds of finding, reading and failing, the process has as many open files as before."""
    grouped.write(OUTER, "nonsense")
    limits = OutsideLimits(grouped.root)

    def rounds(count: int) -> int:
        for number in range(count):
            grouped.move(f"0::/outer/inner/{number}")
            limits.lowest()
        return len(os.listdir("/proc/self/fd"))

    assert rounds(5) == rounds(100)


def test_import_brings_no_other_module() -> None:
    """Beside what every host has imported already, the module brings only itself."""
    program = (
        "import os, re, sys, attrs, weighbridge; before = set(sys.modules);"
        "import weighbridge.limits; print(*sorted(set(sys.modules) - before))"
    )
    command = [sys.executable, "-P", "-c", program]
    assert subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.split() == [
        "weighbridge.limits"
    ]


# -- whatever the files say --------------------------------------------------------------------------------------------


def escaped(path: bytes) -> bytes:
    """As the kernel shows a path: https://github.com/torvalds/linux/blob/v6.12/fs/proc_namespace.c"""
    return b"".join(b"\\%03o" % byte if byte in b" \t\n\\" else bytes([byte]) for byte in path)


names = st.binary(min_size=1, max_size=12).map(lambda raw: raw.replace(b"\0", b"0").replace(b"/", b"_"))
paths = st.lists(names, max_size=4).map(lambda parts: b"/" + b"/".join(parts))
tags = st.lists(st.sampled_from([b"shared:7", b"master:1", b"propagate_from:2", b"unbindable"]), max_size=3)
plain_parts = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1), max_size=4).map(
    lambda parts: [part for part in parts if part not in (".", "..")]
)


@given(
    paths, paths, tags, st.sampled_from([(b"cgroup2", b"rw"), (b"cgroup", b"rw,cpu,memory"), (b"cgroup", b"memory")])
)
def test_mount_of_any_name_is_read(root: bytes, point: bytes, tags: list[bytes], kind: tuple[bytes, bytes]) -> None:
    """Whatever bytes are in the paths and however many tags are in between, a mount is read as it was."""
    head = b" ".join((b"36 35 0:32", escaped(root), escaped(point), b"rw,noatime", *tags))
    line = head + b" - " + kind[0] + b" source " + kind[1]
    others = (PROC.encode(), V1_CPU.encode(), b"")
    assert list(parse_mounts(b"\n".join((others[0], line, *others[1:])))) == [
        Mount(kind=kind[0].decode(), root=os.fsdecode(root), point=os.fsdecode(point))
    ]


@given(paths.map(lambda path: path.replace(b"\n", b" ")), paths.map(lambda path: path.replace(b"\n", b" ")))
def test_group_of_any_name_is_read(first: bytes, second: bytes) -> None:
    """Groups are read as they are named, with colons and spaces; the kernel allows every byte but the line's end."""
    text = b"11:cpu,cpuacct:/x\n4:hugetlb,memory:" + first + b"\n1:name=memory:/y\n0::" + second + b"\n"
    assert parse_groups(text) == {"cgroup": os.fsdecode(first), "cgroup2": os.fsdecode(second)}


@given(st.integers(0, 2**64), st.sampled_from([b"", b"\n"]))
def test_number_is_a_limit_up_to_what_means_none(number: int, end: bytes) -> None:
    """A number is so many bytes as long as it is below 2**62, and no limit from there on."""
    assert parse_limit(b"%d" % number + end) == (number if number < 2**62 else None)


@given(st.binary(max_size=40) | st.from_regex(rb"\A[-+ 0-9_.a-z\n]{0,24}\Z"))
def test_any_content_is_a_number_or_nothing(content: bytes) -> None:
    """No content of a file is an error, and only digits make a limit."""
    digits = content.strip()
    is_number = digits.isdigit() and len(digits) <= 19 and int(digits) < 2**62
    assert parse_limit(content) == (int(digits) if is_number else None)


@given(
    st.lists(st.binary(max_size=40), max_size=4), st.integers(0, 2**64), st.lists(st.binary(max_size=40), max_size=4)
)
def test_summary_with_anything_around_its_limit_is_read(before: list[bytes], number: int, after: list[bytes]) -> None:
    """Of any lines the one with the limit counts, by the rule of a file with one number; without it there is none."""
    others = [line.replace(b"\n", b"").replace(b"hierarchical_memory_limit ", b"") for line in (*before, *after)]
    line = b"hierarchical_memory_limit %d" % number
    text = b"\n".join((*others[: len(before)], line, *others[len(before) :]))
    assert parse_summary(text) == parse_limit(b"%d" % number)
    assert parse_summary(b"\n".join(others)) is None


@given(plain_parts, plain_parts)
def test_way_below_a_mount_is_what_follows_its_root(top: list[str], rest: list[str]) -> None:
    """The way from a mount's root to a group is the end of the group's path; the other way round there is none."""
    root, group = "/" + "/".join(top), "/" + "/".join(top + rest)
    assert path_below(root, group) == tuple(rest)
    assert path_below(group, root) == (None if rest else ())
    assert path_below(root, f"{group}/..") is None


@given(st.binary(max_size=200), st.binary(max_size=200), st.booleans())
def test_any_content_of_proc_is_survived(groups: bytes, mounts: bytes, is_like_one: bool) -> None:
    """Nonsense in the two files of the process is no limit and no error."""
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder, "proc/self")
        own.mkdir(parents=True)
        (own / "cgroup").write_bytes(b"0::/" + groups if is_like_one else groups)
        (own / "mountinfo").write_bytes(V2.encode().replace(b" /sys", b" /" + mounts) if is_like_one else mounts)
        assert OutsideLimits(folder).lowest() is None


words = st.none() | st.just("max") | st.just("nonsense") | st.integers(0, 2**63).map(str)


@given(st.lists(st.tuples(words, words), min_size=1, max_size=5), st.integers(0, 5))
def test_lowest_is_the_lowest_of_all_levels(levels: list[tuple[str | None, str | None]], hidden: int) -> None:
    """Of any limits on any of the groups that can be seen, the lowest is found, and it is where it was said to be."""
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine(Path(folder))
        above = [f"above{number}" for number in range(hidden)]
        inside = [f"level{number}" for number in range(1, len(levels))]
        machine.move("0::/" + "/".join(above + inside))
        machine.mount(V2.replace(" / ", f" /{'/'.join(above)} ", 1))
        expected = {}
        for depth, pair in enumerate(levels):
            for name, word in zip(("memory.max", "memory.high"), pair, strict=True):
                file = "/".join(("/sys/fs/cgroup", *inside[:depth], name))
                if word is not None:
                    machine.write(file, word)
                if word is not None and word.isdigit() and int(word) < 2**62:
                    expected[f"{folder}{file}"] = int(word)
        lowest = OutsideLimits(folder).lowest()
        assert (lowest.nbytes if lowest else None) == min(expected.values(), default=None)
        assert lowest is None or expected[lowest.source] == lowest.nbytes


# -- the kernel's own groups -------------------------------------------------------------------------------------------


def folders_of_this_process(top: Path) -> Iterator[Path]:
    """The groups below `top` that list this process as one of theirs."""
    for file in top.rglob("cgroup.procs"):
        if str(os.getpid()) in file.read_text(encoding="ascii").split():
            yield file.parent


@LINUX
@pytest.mark.skipif(not Path("/sys/fs/cgroup").is_dir(), reason="no control groups are mounted here")
def test_files_are_those_of_the_groups_that_list_this_process() -> None:
    """The files of limits are found in the group whose list has this process, and in all groups around it."""
    top = Path("/sys/fs/cgroup")
    expected = {
        folder / name
        for own in folders_of_this_process(top)
        for folder in (own, *own.parents)
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes")
        if folder.is_relative_to(top) and (folder / name).exists()
    }
    found = {Path(file) for file in OutsideLimits().files()}
    summaries = {file for file in found if file.name == "memory.stat"}
    assert {file for file in found - summaries if file.exists()} == expected
    limits = [nbytes for file in expected if (nbytes := parse_limit(file.read_bytes())) is not None]
    for file in summaries:
        text = file.read_bytes()
        assert b"hierarchical_memory_limit " in text
        limits += [nbytes for nbytes in [parse_summary(text)] if nbytes is not None]
    lowest = OutsideLimits().lowest()
    assert (lowest.nbytes if lowest else None) == min(limits, default=None)


# Each line of its input makes it look once more, with the same object.
LOOKER: Final = """
import json, sys
from weighbridge.limits import OutsideLimits
limits = OutsideLimits()
for line in sys.stdin:
    lowest = limits.lowest()
    print(json.dumps([lowest.nbytes, lowest.source] if lowest else None), flush=True)
"""
GIVEN: Final = os.environ.get("WEIGHBRIDGE_TEST_CGROUP")


@contextmanager
def groups(given: Path) -> Iterator[tuple[Path, Path, Path]]:
    """A group with two groups in it, all of them with limits; removed afterwards."""
    parent = given / f"weighbridge-{os.getpid()}"
    made = [parent, parent / "first", parent / "second"]
    try:
        for folder in made:
            if (folder.parent / "cgroup.subtree_control").exists():
                (folder.parent / "cgroup.subtree_control").write_text("+memory", encoding="ascii")
            folder.mkdir()
        yield made[0], made[1], made[2]
    finally:
        for folder in filter(Path.exists, reversed(made)):
            folder.rmdir()


@contextmanager
def looker() -> Iterator[tuple[int, Callable[[], tuple[int, Path] | None]]]:
    """Another process, and a function that asks it for its lowest limit."""
    command = [sys.executable, "-P", "-c", LOOKER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        answers, questions = child.stdout, child.stdin

        def ask() -> tuple[int, Path] | None:
            questions.write("look\n")
            answer = json.loads(answers.readline())
            return (answer[0], Path(answer[1])) if answer else None

        try:
            yield child.pid, ask
        finally:
            child.kill()


@pytest.mark.skipif(
    GIVEN is None,
    reason="WEIGHBRIDGE_TEST_CGROUP names no folder of an empty control group in which this test may make others",
)
def test_limits_of_a_real_group_and_of_the_one_around_it_are_seen() -> None:
    """A process put into a group of the kernel sees its limit, that of the group around it, changes, and a move."""
    with groups(Path(GIVEN or "")) as (parent, first, second), looker() as (pid, ask):
        names = [name for name in ("memory.max", "memory.limit_in_bytes") if (parent / name).exists()]
        assert names, f"the memory controller is not there in {GIVEN}"
        file = names[0]

        def move(group: Path) -> None:
            (group / "cgroup.procs").write_text(str(pid), encoding="ascii")

        def limit(group: Path, nbytes: int) -> None:
            (group / file).write_text(str(nbytes), encoding="ascii")

        limit(first, 65 * MIB)
        limit(second, 67 * MIB)
        move(first)
        assert ask() == (65 * MIB, first / file)
        limit(first, 66 * MIB)
        assert ask() == (66 * MIB, first / file)
        limit(parent, 62 * MIB)
        assert ask() == (62 * MIB, parent / file)
        limit(parent, 90 * MIB)
        move(second)
        assert ask() == (67 * MIB, second / file)
        if file == "memory.max":
            (second / "memory.high").write_text(str(60 * MIB), encoding="ascii")
            assert ask() == (60 * MIB, second / "memory.high")
            (second / "memory.high").write_text("max", encoding="ascii")
        (second / file).write_text("-1" if file == "memory.limit_in_bytes" else "max", encoding="ascii")
        assert ask() == (90 * MIB, parent / file)
