"""The control group of this process, on generated machines."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge_balloon.groups import Group, missing_in, mounts_of, own_group, path_below, path_in

MIB = 1024 * 1024
V2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
NAMED = "40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n"


def put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def machine(root: Path, membership: str, mounts: str) -> Path:
    put(root, "proc/self/cgroup", membership)
    put(root, "proc/self/mountinfo", mounts)
    return root


def test_group_of_version_2_is_found(tmp_path: Path) -> None:
    """By its path below the mount."""
    root = machine(tmp_path, "0::/app.slice/web.service\n", V2)
    folder = root / "sys/fs/cgroup/app.slice/web.service"
    folder.mkdir(parents=True)
    assert own_group(root, 2) == Group(folder, 2)
    assert own_group(root, 1) is None


def test_group_of_version_1_is_that_of_memory(tmp_path: Path) -> None:
    """Other controllers and named hierarchies are passed over."""
    membership = "9:name=systemd:/other\n4:cpu,memory:/box/1\n2:cpuset:/\n0::/\n"
    root = machine(tmp_path, membership, NAMED + V1 + V2)
    folder = root / "sys/fs/cgroup/memory/box/1"
    folder.mkdir(parents=True)
    assert own_group(root, 1) == Group(folder, 1)


def test_container_sees_its_group_as_the_top(tmp_path: Path) -> None:
    """A mount that shows a part of the hierarchy is matched with the path in it."""
    mounts = V2.replace("0:26 / ", "0:26 /kube/pod7 ")
    root = machine(tmp_path, "0::/kube/pod7\n", mounts)
    (root / "sys/fs/cgroup").mkdir(parents=True)
    assert own_group(root, 2) == Group(root / "sys/fs/cgroup", 2)


def test_spaces_in_a_path_are_unescaped(tmp_path: Path) -> None:
    """The kernel writes them as octal numbers in mountinfo."""
    root = machine(tmp_path, "0::/a\n", V2.replace("/sys/fs/cgroup", "/sys/fs/c\\040g"))
    (root / "sys/fs/c g/a").mkdir(parents=True)
    assert own_group(root, 2) == Group(root / "sys/fs/c g/a", 2)


@pytest.mark.parametrize(
    ("membership", "mounts"),
    [
        ("", V2),
        ("0::/a\n", ""),
        ("0::/gone\n", V2),
        ("0::/../beside\n", V2),
        ("0::/other\n", V2.replace("0:26 / ", "0:26 /kube ")),
    ],
)
def test_group_that_no_mount_shows_is_none(membership: str, mounts: str, tmp_path: Path) -> None:
    """No group, no mount, a group that has gone, or one that lies beside what is mounted."""
    root = machine(tmp_path, membership, mounts)
    (root / "sys/fs/cgroup/beside").mkdir(parents=True)
    assert own_group(root, 2) is None


@given(st.binary(max_size=200), st.sampled_from([1, 2]))
def test_any_tables_are_read(text: bytes, version: int) -> None:
    """Parsing never raises on what is no table."""
    path = path_in(text, version)
    assert path is None or path.startswith("/")
    assert all(len(mount) == 2 for mount in mounts_of(text, version))


@given(st.lists(st.sampled_from(["a", "b", "ab"]), max_size=4), st.lists(st.sampled_from(["a", "b", "ab"]), max_size=4))
def test_path_below_a_mount_leads_back(inside: list[str], further: list[str]) -> None:
    """What lies below a mount is found again from there; a name that only begins alike is another one."""
    mount = "/" + "/".join(inside)
    path = "/" + "/".join([*inside, *further])
    assert path_below(path, mount) == "/".join(further)
    assert path_below(f"/x{path}", "/y") is None
    assert path_below("/abc", "/ab") is None


def limited(folder: Path, used: int, limit: str, *, high: str = "max", inactive: int = 0) -> None:
    put(folder, "memory.current", f"{used}\n")
    put(folder, "memory.max", f"{limit}\n")
    put(folder, "memory.high", f"{high}\n")
    put(folder, "memory.stat", f"anon 5\ninactive_file {inactive}\nactive_file 7\n")


def test_group_without_limits_lacks_nothing(tmp_path: Path) -> None:
    """The word for no limit is no number."""
    limited(tmp_path, 900 * MIB, "max")
    assert missing_in(Group(tmp_path, 2)) == 0


def test_group_lacks_a_sixteenth_of_its_limit(tmp_path: Path) -> None:
    """What is free counts, and what the kernel can let go of at once."""
    limited(tmp_path, 160 * MIB, str(160 * MIB))
    assert missing_in(Group(tmp_path, 2)) == 10 * MIB
    limited(tmp_path, 160 * MIB, str(160 * MIB), inactive=4 * MIB)
    assert missing_in(Group(tmp_path, 2)) == 6 * MIB
    limited(tmp_path, 100 * MIB, str(160 * MIB))
    assert missing_in(Group(tmp_path, 2)) == 0


def test_lower_limit_counts(tmp_path: Path) -> None:
    """A group is slowed down at ``memory.high``, well before its end."""
    limited(tmp_path, 100 * MIB, str(1600 * MIB), high=str(96 * MIB))
    assert missing_in(Group(tmp_path, 2)) == 10 * MIB


def test_groups_around_count_as_well(tmp_path: Path) -> None:
    """A limit of the parent holds for the child."""
    limited(tmp_path, 320 * MIB, str(320 * MIB))
    limited(tmp_path / "child", MIB, "max")
    assert missing_in(Group(tmp_path / "child", 2)) == 20 * MIB
