"""Places that know of the balloon's size and target, on generated machines."""

from __future__ import annotations

import ctypes
import mmap
import struct
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge_balloon.levels.choose import candidates, find_levels
from weighbridge_balloon.levels.debugfs import HypervDebugLevel, VmwareDebugLevel, parse_numbers
from weighbridge_balloon.levels.level import UNKNOWN, Level, LevelSource
from weighbridge_balloon.levels.virtio_pci import VirtioPciLevel, capabilities, find_virtio_pci
from weighbridge_balloon.levels.vmstat import VmstatLevel, parse_vmstat
from weighbridge_balloon.levels.vmware_guest import LIBRARY, VmwareGuestLevel
from weighbridge_balloon.levels.xen import XenLevel

KIB, MIB, PAGE = 1024, 1024 * 1024, mmap.PAGESIZE
OLD = "nr_free_pages 100\nballoon_inflate 5000\nballoon_deflate 1000\nballoon_migrate 3\n"
XEN = "sys/devices/system/xen_memory/xen_memory0"
VMMEMCTL = """balloon capabilities:   0x1e
used capabilities:   0x6
is resetting: n
target: 1000 pages
current: 600 pages
rateSleepAlloc: 2048 pages/sec
"""
HV_BALLOON = """host_version          : 10.0
capabilities          : enabled hot_add
state                 : 1 (Initialized)
page_size             : 4096
pages_added           : 0
pages_onlined         : 0
pages_ballooned       : 2048
total_pages_committed : 150000
max_dynamic_page_count: 262144
"""


def put(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def with_virtio(root: Path, kind: str = "0x0005") -> Path:
    put(root, "sys/bus/virtio/devices/virtio3/device", f"{kind}\n")
    return root


def test_newer_kernel_says_the_size_in_one_line() -> None:
    """``nr_balloon_pages`` is the size, also when it is 0, and older counters do not matter then."""
    assert parse_vmstat(f"nr_balloon_pages 7\n{OLD}".encode(), is_counted=False) == 7 * PAGE
    assert parse_vmstat(f"nr_balloon_pages 0\n{OLD}".encode(), is_counted=False) == 0


def test_older_kernel_says_it_in_two_counters() -> None:
    """What was inflated and not deflated is the size."""
    assert parse_vmstat(OLD.encode(), is_counted=True) == 4000 * PAGE


@pytest.mark.parametrize(("is_counted", "size"), [(True, 0), (False, None)])
def test_counters_at_0_are_a_size_only_where_a_driver_counts(is_counted: bool, size: int | None) -> None:
    """Under Hyper-V and Xen nobody counts them, so 0 would be a lie there."""
    assert parse_vmstat(b"balloon_inflate 0\nballoon_deflate 0\n", is_counted=is_counted) == size


@pytest.mark.parametrize(
    "text", ["", "balloon_inflate 5\n", "balloon_inflate x\nballoon_deflate 1\n", "xnr_balloon_pages 5\n"]
)
def test_counters_that_are_missing_are_unknown(text: str) -> None:
    """Half of the figures, or none, is no size."""
    assert parse_vmstat(text.encode(), is_counted=True) is None


@given(st.binary(max_size=200), st.booleans())
def test_any_text_of_counters_is_read(text: bytes, is_counted: bool) -> None:
    """Parsing never raises, and a size is 0 or more."""
    size = parse_vmstat(text, is_counted=is_counted)
    assert size is None or size >= 0
    assert all(number >= 0 for number in parse_numbers(text).values())


def test_virtio_balloon_makes_the_counters_count(tmp_path: Path) -> None:
    """With a device of kind 5, counters at 0 are a balloon that is empty; with another they say nothing."""
    text = "balloon_inflate 0\nballoon_deflate 0\n"
    put(tmp_path / "a", "proc/vmstat", text)
    put(tmp_path / "b", "proc/vmstat", text)
    assert VmstatLevel(with_virtio(tmp_path / "a")).read() == Level(actual_bytes=0)
    assert VmstatLevel(with_virtio(tmp_path / "b", "0x0001")).read() == UNKNOWN


def test_xen_wants_what_the_domain_has_beyond_its_target(tmp_path: Path) -> None:
    """Sizes of the domain give what is wanted, and no size of a balloon."""
    put(tmp_path, f"{XEN}/info/current_kb", "1048576\n")
    put(tmp_path, f"{XEN}/target_kb", "786432\n")
    assert XenLevel(tmp_path).read() == Level(wanted_bytes=256 * MIB)


def test_xen_without_a_target_is_unknown(tmp_path: Path) -> None:
    """Half of it is nothing."""
    put(tmp_path, f"{XEN}/info/current_kb", "1048576\n")
    assert XenLevel(tmp_path).read() == UNKNOWN


def test_vmware_shows_both_to_root(tmp_path: Path) -> None:
    """Lines in pages, among others that have other units."""
    put(tmp_path, "sys/kernel/debug/vmmemctl", VMMEMCTL)
    assert VmwareDebugLevel(tmp_path).read() == Level(actual_bytes=600 * PAGE, wanted_bytes=400 * PAGE)


def test_hyperv_shows_the_size_to_root(tmp_path: Path) -> None:
    """Pages of the size that it names, and no target."""
    put(tmp_path, "sys/kernel/debug/hv-balloon", HV_BALLOON)
    assert HypervDebugLevel(tmp_path).read() == Level(actual_bytes=8 * MIB)


@pytest.mark.parametrize("kind", [VmstatLevel, XenLevel, VmwareDebugLevel, HypervDebugLevel])
def test_machine_without_the_file_is_unknown(kind: Any, tmp_path: Path) -> None:
    """What is not there is None; nothing raises, and closing twice is fine."""
    source = kind(tmp_path)
    assert source.read() == UNKNOWN
    source.close()
    source.close()


# -- the guest library of VMware ---------------------------------------------------------------------------------------


@attrs.define
class GuestLibrary:
    """As much of libguestlib as is called; errors by name of the function."""

    figures: dict[str, int]
    errors: dict[str, int] = attrs.field(factory=dict)
    closed: int = 0

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self._call(name, arguments)

    def _call(self, name: str, arguments: tuple[Any, ...]) -> int:
        if name == "VMGuestLib_CloseHandle":
            self.closed += 1
        if name in self.figures and name not in self.errors:
            arguments[1]._obj.value = self.figures[name]
        return self.errors.get(name, 0)


FIGURES = {
    "VMGuestLib_GetMemBalloonedMB": 100,
    "VMGuestLib_GetMemMappedMB": 900,
    "VMGuestLib_GetMemTargetSizeMB": 5000,
}


def test_guest_library_gives_size_and_wish() -> None:
    """What is mapped beyond the target is wanted; a target above it wants nothing."""
    library = GuestLibrary(FIGURES)
    level = VmwareGuestLevel(lambda name: library)
    assert level.read() == Level(actual_bytes=100 * MIB, wanted_bytes=0)
    library.figures["VMGuestLib_GetMemTargetSizeMB"] = 700
    assert level.read() == Level(actual_bytes=100 * MIB, wanted_bytes=200 * MIB)
    level.close()
    assert library.closed == 1


def test_empty_balloon_of_vmware_wants_nothing() -> None:
    """A target below what is mapped means nothing as long as nobody takes anything."""
    library = GuestLibrary({**FIGURES, "VMGuestLib_GetMemBalloonedMB": 0, "VMGuestLib_GetMemTargetSizeMB": 1})
    assert VmwareGuestLevel(lambda name: library).read() == Level(actual_bytes=0)


@pytest.mark.parametrize("function", ["VMGuestLib_OpenHandle", "VMGuestLib_UpdateInfo"])
def test_guest_library_outside_vmware_is_unknown(function: str) -> None:
    """The library may be installed on a machine that is none of VMware's."""
    assert VmwareGuestLevel(lambda name: GuestLibrary(FIGURES, {function: 3})).read() == UNKNOWN


def test_figure_that_the_library_withholds_is_unknown() -> None:
    """An administrator may forbid one of them."""
    library = GuestLibrary(FIGURES, {"VMGuestLib_GetMemTargetSizeMB": 5})
    assert VmwareGuestLevel(lambda name: library).read() == Level(actual_bytes=100 * MIB)


def test_machine_without_the_library_is_unknown() -> None:
    """It is asked for by its name, and need not be there."""
    asked: list[str] = []

    def load(name: str) -> Any:
        asked.append(name)
        raise OSError(name)

    assert VmwareGuestLevel(load).read() == UNKNOWN
    assert asked == [LIBRARY]


# -- the device --------------------------------------------------------------------------------------------------------


class Device:
    """The configuration space of a virtio balloon, with a window that works as the specification says."""

    def __init__(self, target: int, actual: int, *, window: bool = True) -> None:
        self.space = bytearray(256)
        self.registers = {(4, 0x2000): target, (4, 0x2004): actual}
        self.space[0x06] = 0x10
        self.space[0x34] = 0x40
        self._capability(0x40, 0x50, 1, 0, 0)
        self._capability(0x50, 0x70 if window else 0, 4, 4, 0x2000)
        if window:
            self._capability(0x70, 0, 5, 0, 0)

    def _capability(self, at: int, following: int, kind: int, bar: int, offset: int) -> None:
        struct.pack_into("<BBBBBBHII", self.space, at, 9, following, 16, kind, bar, 0, 0, offset, 64)

    def read(self, offset: int, nbytes: int) -> bytes:
        if offset == 0x80:
            bar, where, length = struct.unpack_from("<B3xII", self.space, 0x74)
            assert length == 4
            return struct.pack("<I", self.registers[bar, where])
        return bytes(self.space[offset : offset + nbytes])

    def write(self, offset: int, content: bytes) -> None:
        assert offset in (0x74, 0x78, 0x7C), "nothing but the window may be written to"
        self.space[offset : offset + len(content)] = content


def test_device_shows_its_target_through_the_window() -> None:
    """Both figures are pages of 4 KiB, whatever the machine's."""
    level = VirtioPciLevel(Device(target=164_864, actual=87_552), "config")
    assert level.read() == Level(actual_bytes=342 * MIB, wanted_bytes=302 * MIB)


def test_device_that_gives_memory_back_wants_less_than_nothing() -> None:
    """A target below the size is a wish below 0."""
    assert VirtioPciLevel(Device(target=0, actual=256), "config").read().wanted_bytes == -MIB


def test_device_without_a_window_is_unknown() -> None:
    """It is not guessed where its registers are."""
    assert VirtioPciLevel(Device(1, 1, window=False), "config").read() == UNKNOWN


def test_list_that_runs_in_a_ring_ends() -> None:
    """A broken list of capabilities is read once around."""
    device = Device(1, 1)
    device.space[0x71] = 0x40
    assert [found.kind for found in capabilities(device)] == [1, 4, 5]


@given(st.binary(min_size=256, max_size=256))
def test_any_configuration_space_is_read(content: bytes) -> None:
    """Garbage gives nothing, or capabilities that are where they say."""

    class Garbage:
        def read(self, offset: int, nbytes: int) -> bytes:
            return content[offset : offset + nbytes]

        def write(self, offset: int, content: bytes) -> None:
            raise OSError("read-only")

    assert all(0 < found.at < 256 for found in capabilities(Garbage()))
    assert VirtioPciLevel(Garbage(), "config").read() == UNKNOWN


def test_device_is_found_behind_its_link(tmp_path: Path) -> None:
    """The bus links to the device, and its parent is the one on the PCI bus."""
    device = tmp_path / "sys/devices/pci0000:00/0000:00:05.0/virtio3"
    put(device, "device", "0x0005\n")
    (device.parent / "config").write_bytes(bytes(Device(256, 0).space))
    bus = tmp_path / "sys/bus/virtio/devices"
    bus.mkdir(parents=True)
    (bus / "virtio3").symlink_to(device)
    found = find_virtio_pci(tmp_path)
    assert found is not None
    assert found.name == str(device.parent / "config")


def test_device_of_another_bus_is_not_asked(tmp_path: Path) -> None:
    """A balloon behind virtio-mmio has no configuration space of PCI."""
    assert find_virtio_pci(with_virtio(tmp_path)) is None


def test_device_is_asked_only_where_writing_is_allowed(tmp_path: Path) -> None:
    """Looking through the window writes, so it is not even a candidate otherwise."""
    device = tmp_path / "sys/devices/pci/virtio3"
    put(device, "device", "0x0005\n")
    put(device.parent, "config", "")
    (tmp_path / "sys/bus/virtio/devices").mkdir(parents=True)
    (tmp_path / "sys/bus/virtio/devices/virtio3").symlink_to(device)
    named = [isinstance(source, VirtioPciLevel) for source in candidates(tmp_path, may_write=False)]
    assert not any(named)
    assert isinstance(candidates(tmp_path, may_write=True)[0], VirtioPciLevel)


def test_those_that_answer_are_kept(tmp_path: Path) -> None:
    """Those that see a target come first, and a machine without a balloon has none."""
    put(tmp_path, f"{XEN}/info/current_kb", "100\n")
    put(tmp_path, f"{XEN}/target_kb", "50\n")
    put(tmp_path, "proc/vmstat", "nr_balloon_pages 5\n")
    assert [type(source) for source in find_levels(tmp_path, may_write=False)] == [XenLevel, VmstatLevel]
    assert find_levels(tmp_path / "nothing", may_write=True) == []


def test_places_that_see_a_target_say_so(tmp_path: Path) -> None:
    """Those that never do are not read for it."""
    sees = {type(source).__name__: source.sees_target for source in candidates(tmp_path, may_write=False)}
    assert sees == {"XenLevel": True, "VmwareDebugLevel": True, "HypervDebugLevel": False, "VmstatLevel": False}


def test_library_is_not_loaded_for_a_tree(tmp_path: Path) -> None:
    """What is asked of a generated machine says nothing about the one that runs."""
    sources: list[LevelSource] = candidates(tmp_path, may_write=False)
    assert not any(isinstance(source, VmwareGuestLevel) for source in sources)
    assert ctypes.sizeof(ctypes.c_uint64) == 8
