"""Containers: what runtimes leave behind, and what the namespaces say to that."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weighbridge_balloon.hypervisor import detect
from weighbridge_balloon.hypervisor.container import detect as detect_container
from weighbridge_balloon.hypervisor.cpuid import Denied

OUTSIDE: Final = {"pid": "pid:[4026531836]", "cgroup": "cgroup:[4026531835]", "mnt": "mnt:[4026531832]"}
OLDER: Final = OUTSIDE | {"mnt": "mnt:[4026531841]"}
INSIDE: Final = {"pid": "pid:[4026532290]", "cgroup": "cgroup:[4026532291]", "mnt": "mnt:[4026532287]"}
HOST_PIDS: Final = INSIDE | {"pid": OUTSIDE["pid"]}


def plant(root: Path, files: Mapping[str, str], spaces: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    folder = root / "proc/self/ns"
    folder.mkdir(parents=True, exist_ok=True)
    for kind, number in spaces.items():
        (folder / kind).symlink_to(number)


@pytest.mark.parametrize(
    ("files", "environ", "spaces", "name"),
    [
        ({".dockerenv": ""}, {}, INSIDE, "docker"),
        ({".dockerenv": ""}, {}, {}, "docker"),
        ({".dockerenv": ""}, {}, HOST_PIDS, "docker"),
        ({".dockerenv": ""}, {}, OUTSIDE, "none"),
        ({"run/.containerenv": ""}, {"container": "podman"}, INSIDE, "podman"),
        ({"run/.containerenv": ""}, {"container": "oci"}, INSIDE, "podman"),
        ({}, {"container": "oci"}, INSIDE, "other"),
        ({"run/systemd/container": "systemd-nspawn\n"}, {}, INSIDE, "systemd-nspawn"),
        ({"run/host/container-manager": "LXC\n"}, {}, INSIDE, "lxc"),
        ({"proc/self/cgroup": "0::/kubepods/burstable/pod12/3fa\n"}, {}, INSIDE, "kubernetes"),
        ({"proc/self/cgroup": "4:memory:/docker/3fa\n"}, {}, INSIDE, "docker"),
        ({"proc/self/cgroup": "0::/system.slice/docker-3fa.scope\n"}, {}, INSIDE, "docker"),
        ({"proc/self/cgroup": "0::/machine.slice/libpod-3fa.scope\n"}, {}, INSIDE, "podman"),
        ({"proc/self/cgroup": "0::/lxc.payload.web/init\n"}, {}, INSIDE, "lxc"),
        ({}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, INSIDE, "kubernetes"),
        ({"proc/version": "Linux version 6.6.36-microsoft-standard-WSL2 (gcc)\n"}, {}, OUTSIDE, "wsl"),
        ({"proc/version": "Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016\n"}, {}, OUTSIDE, "gvisor"),
        ({"proc/version": "Linux version 4.19.0-gvisor #1 SMP Sun Jan 10 15:06:54 PST 2016\n"}, {}, OUTSIDE, "gvisor"),
        ({"proc/vz/version": ""}, {}, {}, "openvz"),
        ({"proc/vz/version": "", "proc/bc/0": ""}, {}, OUTSIDE, "none"),
        ({}, {}, INSIDE, "other"),
        ({"proc/self/cgroup": "0::/user.slice/user-1000.slice/session-2.scope\n"}, {}, OLDER, "none"),
        ({"proc/self/cgroup": "0::/system.slice/docker.service\n"}, {}, OLDER, "none"),
        ({}, {}, {}, None),
    ],
)
def test_container_has_its_name(
    files: Mapping[str, str], environ: Mapping[str, str], spaces: Mapping[str, str], name: str | None, tmp_path: Path
) -> None:
    """By files, environment, control groups and kernel; a file that an image left behind on a machine is none."""
    plant(tmp_path, files, spaces)
    found = detect_container(tmp_path, environ)
    assert found.name == name, found.reason
    assert found.reason


def test_file_of_an_image_is_in_the_evidence_all_the_same(tmp_path: Path) -> None:
    """Whoever wonders about the answer sees the file and the namespaces that outweigh it."""
    plant(tmp_path, {".dockerenv": ""}, OUTSIDE)
    assert "/.dockerenv: there" in detect_container(tmp_path, {}).reason
    assert "/proc/self/ns/mnt: mnt:[4026531832], the machine's own" in detect_container(tmp_path, {}).reason


def test_container_is_apart_from_the_machine(tmp_path: Path) -> None:
    """A container on a virtual machine is both, and neither hides the other."""
    plant(tmp_path, {".dockerenv": "", "proc/cpuinfo": "flags : fpu hypervisor\n"}, INSIDE)
    found = detect(tmp_path, Denied("not here"), {})
    assert (found.kind, found.container.name) == ("other", "docker")


TREES: Final = st.dictionaries(
    st.sampled_from(
        [
            ".dockerenv",
            "run/systemd/container",
            "proc/self/cgroup",
            "proc/version",
            "proc/cpuinfo",
            "proc/sysinfo",
            "proc/xen/capabilities",
            "proc/device-tree/compatible",
            "proc/device-tree/hypervisor/compatible",
            "proc/device-tree/model",
            "sys/hypervisor/type",
            "sys/hypervisor/properties/features",
            "sys/class/dmi/id/sys_vendor",
            "sys/class/dmi/id/product_name",
            "sys/class/dmi/id/modalias",
            "sys/firmware/dmi/entries/0-0/raw",
            "sys/bus/pci/devices/0000:00:00.0/vendor",
            "sys/bus/virtio/devices/virtio0/device",
            "sys/bus/virtio/devices/virtio0/features",
            "sys/bus/vmbus/devices/1/class_id",
            "sys/class/ptp/ptp0/clock_name",
            "sys/devices/system/clocksource/clocksource0/available_clocksource",
        ]
    ),
    st.one_of(
        st.binary(max_size=80),
        st.sampled_from([b"xen\n", b"0x0005\n", b"0800", b"control_d", b"flags : hypervisor", b"kvm-clock", b"\0\0"]),
        st.none(),
    ),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(tree=TREES, environ=st.dictionaries(st.sampled_from(["container", "PATH"]), st.text(max_size=10)))
def test_any_tree_can_be_looked_at(
    tree: Mapping[str, bytes | None], environ: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Files with anything in them, and folders where files belong: there is a verdict, and its reason is text."""
    from weighbridge_balloon.driver import find
    from weighbridge_balloon.hypervisor.evidence import KINDS

    root = tmp_path_factory.mktemp("tree")
    for name, content in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir(exist_ok=True)
        elif not path.is_dir():
            path.write_bytes(content)
    found = detect(root, Denied("not here"), environ)
    assert set(found.kinds) <= set(KINDS)
    assert (found.verdict.confidence is None) == (found.kind == "unknown")
    assert find(found, root).is_available in {True, False, None}
