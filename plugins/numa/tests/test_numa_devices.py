"""The node of a device, in trees of sysfs as real kernels lay them out."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge_numa.devices import nodes_of

BRIDGE = "devices/pci0000:{bus}"


class Sysfs:
    """A tree of sysfs: folders under ``devices``, and links to them by class and by number."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.status: dict[str, os.stat_result] = {}

    def folder(self, path: str, **files: object) -> Path:
        folder = self.root / "sys" / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_text(f"{content}\n", encoding="ascii")
        return folder

    def link(self, place: str, target: Path) -> None:
        path = self.root / "sys" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(os.path.relpath(target, path.parent))

    def pci(self, address: str, node: int) -> str:
        self.folder(f"devices/pci0000:00/{address}", numa_node=node)
        return f"devices/pci0000:00/{address}"

    def block(self, path: str, number: str, **files: object) -> Path:
        """A block device, with its links by name and by number."""
        folder = self.folder(path, dev=number, **files)
        self.link(f"class/block/{folder.name}", folder)
        self.link(f"dev/block/{number}", folder)
        return folder

    def file(self, name: str, *, disk: str = "0:0", device: str = "0:0", mode: int = stat.S_IFREG) -> None:
        """A file of that name: on a disk, or a device of that number."""
        numbers = [os.makedev(*map(int, number.split(":"))) for number in (disk, device)]
        fields = (mode, 0, numbers[0], 0, 0, 0, 0, 0, 0, 0)
        self.status[name] = os.stat_result(fields, {"st_rdev": numbers[1]})

    def stat_of(self, name: str) -> os.stat_result:
        if name not in self.status:
            raise FileNotFoundError(2, "No such file or directory", name)
        return self.status[name]

    def nodes_of(self, name: str) -> set[int] | None:
        found = nodes_of(name, root=str(self.root), stat_of=self.stat_of)
        return None if found is None else set(found)


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    tree = Sysfs(tmp_path)
    tree.folder("class")
    return tree


def nvme(sysfs: Sysfs, number: int, node: int, dev: str = "259:0") -> Path:
    """A plain NVMe disk: the namespace is below its controller, and the controller below its PCI device."""
    controller = f"{sysfs.pci(f'0000:0{number}:00.0', node)}/nvme/nvme{number}"
    sysfs.link(f"class/nvme/nvme{number}", sysfs.folder(controller, numa_node=node))
    return sysfs.block(f"{controller}/nvme{number}n1", dev)


def test_a_disk_has_the_node_of_its_controller(sysfs: Sysfs) -> None:
    """By its name, by its path, and so has its controller."""
    nvme(sysfs, 0, 1)
    sysfs.file("/dev/nvme0n1", device="259:0", mode=stat.S_IFBLK)
    assert sysfs.nodes_of("nvme0n1") == {1}
    assert sysfs.nodes_of("/dev/nvme0n1") == {1}
    assert sysfs.nodes_of("nvme0") == {1}


def test_a_partition_has_the_node_of_its_disk(sysfs: Sysfs) -> None:
    """It has no device of its own."""
    disk = nvme(sysfs, 0, 3)
    sysfs.block(f"{disk.relative_to(sysfs.root / 'sys')}/nvme0n1p2", "259:2", partition=2)
    assert sysfs.nodes_of("nvme0n1p2") == {3}


def test_a_file_has_the_node_of_the_disk_under_it(sysfs: Sysfs) -> None:
    """A folder, too."""
    nvme(sysfs, 0, 2)
    sysfs.file("/srv/data", disk="259:0")
    sysfs.file("/srv", disk="259:0", mode=stat.S_IFDIR)
    assert sysfs.nodes_of("/srv/data") == sysfs.nodes_of("/srv") == {2}


def test_a_file_without_a_disk_is_unknown(sysfs: Sysfs) -> None:
    """btrfs, overlayfs and tmpfs have numbers that belong to no device."""
    nvme(sysfs, 0, 2)
    sysfs.file("/tmp/data", disk="0:27")
    assert sysfs.nodes_of("/tmp/data") is None


def test_layers_have_the_nodes_of_all_their_disks(sysfs: Sysfs) -> None:
    """dm on md on two disks: both nodes; through a partition of one of them, too."""
    first, second = nvme(sysfs, 0, 0, "259:0"), nvme(sysfs, 1, 1, "259:1")
    part = sysfs.block(f"{second.relative_to(sysfs.root / 'sys')}/nvme1n1p1", "259:5", partition=1)
    mirror = sysfs.block("devices/virtual/block/md0", "9:0")
    sysfs.link("devices/virtual/block/md0/slaves/nvme0n1", first)
    sysfs.link("devices/virtual/block/md0/slaves/nvme1n1p1", part)
    sysfs.block("devices/virtual/block/dm-0", "253:0")
    sysfs.link("devices/virtual/block/dm-0/slaves/md0", mirror)
    sysfs.file("/home/file", disk="253:0")
    assert sysfs.nodes_of("md0") == sysfs.nodes_of("dm-0") == sysfs.nodes_of("/home/file") == {0, 1}


def test_half_an_answer_is_none(sysfs: Sysfs) -> None:
    """A mirror of which one disk is unknown may be anywhere."""
    first, second = nvme(sysfs, 0, 0, "259:0"), nvme(sysfs, 1, -1, "259:1")
    sysfs.block("devices/virtual/block/md0", "9:0")
    for disk in (first, second):
        sysfs.link(f"devices/virtual/block/md0/slaves/{disk.name}", disk)
    assert sysfs.nodes_of("nvme0n1") == {0}
    assert sysfs.nodes_of("md0") is None


def test_layers_in_a_ring_end(sysfs: Sysfs) -> None:
    """A kernel that is so mistaken gets no node, and nobody hangs."""
    rings = [sysfs.block(f"devices/virtual/block/dm-{n}", f"253:{n}") for n in (0, 1)]
    for here, there in (rings, rings[::-1]):
        sysfs.link(f"devices/virtual/block/{here.name}/slaves/{there.name}", there)
    assert sysfs.nodes_of("dm-0") is None


def multipath(sysfs: Sysfs, nodes: dict[int, int], *, hidden: bool = True) -> None:
    """A namespace behind several controllers: its head is in the subsystem, and has neither device nor numa_node."""
    subsystem = sysfs.folder("devices/virtual/nvme-subsystem/nvme-subsys0")
    for number, node in nodes.items():
        controller = f"{sysfs.pci(f'0000:0{number}:00.0', node)}/nvme/nvme{number}"
        folder = sysfs.folder(controller, numa_node=node)
        if hidden:
            sysfs.folder(f"{controller}/nvme0c{number}n1")
        sysfs.link(f"devices/virtual/nvme-subsystem/nvme-subsys0/nvme{number}", folder)
    sysfs.block(f"devices/virtual/nvme-subsystem/{subsystem.name}/nvme0n1", "259:0")


@pytest.mark.parametrize("hidden", [True, False])
def test_a_shared_namespace_has_the_nodes_of_all_its_paths(sysfs: Sysfs, hidden: bool) -> None:
    """One for each controller that reaches it, whether the kernel shows the paths or only the controllers."""
    multipath(sysfs, {0: 0, 1: 2}, hidden=hidden)
    assert sysfs.nodes_of("nvme0n1") == {0, 2}


def test_a_controller_without_that_namespace_is_no_path(sysfs: Sysfs) -> None:
    """A subsystem may have more controllers than a namespace has paths."""
    multipath(sysfs, {0: 0, 1: 2})
    stranger = sysfs.folder(f"{sysfs.pci('0000:09:00.0', 5)}/nvme/nvme9", numa_node=5)
    sysfs.folder("devices/pci0000:00/0000:09:00.0/nvme/nvme9/nvme0c9n2")
    sysfs.link("devices/virtual/nvme-subsystem/nvme-subsys0/nvme9", stranger)
    assert sysfs.nodes_of("nvme0n1") == {0, 2}


def test_a_partition_of_a_shared_namespace(sysfs: Sysfs) -> None:
    """It has the nodes of the namespace."""
    multipath(sysfs, {0: 0, 1: 2})
    sysfs.block("devices/virtual/nvme-subsystem/nvme-subsys0/nvme0n1/nvme0n1p1", "259:1", partition=1)
    assert sysfs.nodes_of("nvme0n1p1") == {0, 2}


def test_the_nearest_parent_that_knows_decides(sysfs: Sysfs) -> None:
    """-1 is passed over; a virtio disk inherits from its PCI device."""
    sysfs.folder("devices/pci0000:00", numa_node=7)
    device = sysfs.pci("0000:05:00.0", 4)
    sysfs.folder(f"{device}/virtio2", numa_node=-1)
    sysfs.block(f"{device}/virtio2/block/vda", "254:0")
    assert sysfs.nodes_of("vda") == {4}


def test_a_silent_firmware_is_unknown(sysfs: Sysfs) -> None:
    """Never node 0."""
    nvme(sysfs, 0, -1)
    sysfs.block("devices/virtual/block/zram0", "252:0")
    assert sysfs.nodes_of("nvme0n1") is None
    assert sysfs.nodes_of("zram0") is None


def test_a_network_interface_has_a_node(sysfs: Sysfs) -> None:
    """That of its device; a bond those of its ports; the loopback none."""
    for name, address, node in (("eth0", "0000:01:00.0", 0), ("eth1", "0000:02:00.0", 1)):
        port = sysfs.folder(f"{sysfs.pci(address, node)}/net/{name}")
        sysfs.link(f"class/net/{name}", port)
        sysfs.link(f"devices/virtual/net/bond0/lower_{name}", port)
    sysfs.link("class/net/bond0", sysfs.folder("devices/virtual/net/bond0"))
    sysfs.link("class/net/lo", sysfs.folder("devices/virtual/net/lo"))
    assert [sysfs.nodes_of(name) for name in ("eth1", "bond0", "lo")] == [{1}, {0, 1}, None]


def test_a_pci_address_and_a_character_device_have_a_node(sysfs: Sysfs) -> None:
    """Whatever has a folder below a device."""
    path = sysfs.pci("0000:41:00.0", 6)
    sysfs.link("bus/pci/devices/0000:41:00.0", sysfs.root / "sys" / path)
    sysfs.link("dev/char/226:128", sysfs.folder(f"{path}/drm/renderD128"))
    sysfs.file("/dev/dri/renderD128", device="226:128", mode=stat.S_IFCHR)
    assert sysfs.nodes_of("0000:41:00.0") == sysfs.nodes_of("/dev/dri/renderD128") == {6}


@pytest.mark.parametrize("name", ["sdz", "/dev/sdz", "/nowhere/file", "", ".."])
def test_what_does_not_exist_is_an_error(sysfs: Sysfs, name: str) -> None:
    """A slip in a name is not the same as a firmware that says nothing."""
    with pytest.raises(FileNotFoundError):
        sysfs.nodes_of(name)


@pytest.mark.parametrize("damage", ["", "one", "0x1", "\0", "1 2"])
def test_a_damaged_node_is_unknown(sysfs: Sysfs, damage: str) -> None:
    """Nothing is made of it."""
    path = sysfs.pci("0000:01:00.0", 0)
    (sysfs.root / "sys" / path / "numa_node").write_text(damage, encoding="ascii")
    sysfs.block(f"{path}/block/sda", "8:0")
    assert sysfs.nodes_of("sda") is None


@settings(deadline=None, max_examples=40)
@given(nodes=st.lists(st.integers(-1, 9), min_size=1, max_size=4), depth=st.integers(0, 3))
def test_any_stack_of_layers_has_the_nodes_of_its_disks(
    tmp_path_factory: pytest.TempPathFactory, nodes: list[int], depth: int
) -> None:
    """However many disks and layers: all their nodes, or None if one is unknown, and no other."""
    sysfs = Sysfs(tmp_path_factory.mktemp("stack"))
    below = [nvme(sysfs, number, node, f"259:{number}") for number, node in enumerate(nodes)]
    for layer in range(depth):
        above = sysfs.block(f"devices/virtual/block/dm-{layer}", f"253:{layer}")
        for disk in below:
            sysfs.link(f"devices/virtual/block/dm-{layer}/slaves/{disk.name}", disk)
        below = [above]
    reached = nodes if depth else nodes[:1]
    assert sysfs.nodes_of(below[0].name) == (None if -1 in reached else set(reached))


def test_devices_of_this_machine_are_answered() -> None:
    """On the kernel that runs: whatever the answer is, it names nodes that there are, or it is None."""
    names = [*os.listdir("/sys/class/block"), *os.listdir("/sys/class/net")] if os.path.isdir("/sys/class") else []
    online = (
        {int(name[4:]) for name in os.listdir("/sys/devices/system/node") if name[4:].isdigit()} if names else set()
    )
    for name in [*names, os.getcwd(), os.devnull]:
        assert (nodes_of(name) or frozenset()) <= online
