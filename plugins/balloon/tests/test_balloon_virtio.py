"""Virtio devices: their features by name, and what a balloon among them can do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge_balloon import presence, virtio


def plant(root: Path, name: str = "virtio0", *, driver: str | None = "virtio_balloon", **files: str) -> None:
    path = root / virtio.DEVICES / name
    path.mkdir(parents=True)
    for file, text in files.items():
        (path / file).write_text(text + "\n")
    if driver:
        (path / "driver").symlink_to(f"../../../../bus/virtio/drivers/{driver}")


def availability(root: Path) -> bool | None:
    from weighbridge_balloon.driver import find
    from weighbridge_balloon.hypervisor import detect
    from weighbridge_balloon.hypervisor.cpuid import Denied

    return find(detect(root, Denied("not here"), {}), root).is_available


@given(st.sets(st.integers(0, 127)))
def test_features_are_the_characters_that_are_set(bits: set[int]) -> None:
    """One character for each bit, the first for bit 0."""
    assert virtio.parse_features("".join("1" if bit in bits else "0" for bit in range(128))) == frozenset(bits)


@given(st.text(max_size=40))
def test_other_characters_are_not_features(text: str) -> None:
    """None, that is unknown, for anything that is not such a line."""
    found = virtio.parse_features(text)
    assert (found is None) == (not text or bool(set(text) - {"0", "1"}))


def test_balloon_says_what_was_negotiated(tmp_path: Path) -> None:
    """The features by their names in the kernel's header; a bit without a name as a number."""
    plant(tmp_path, device="0x0005", status="0x0000000f", features="01100101" + "0" * 24 + "1")
    (balloon,) = virtio.balloons(tmp_path)
    assert balloon.feature_names() == ("STATS_VQ", "DEFLATE_ON_OOM", "REPORTING", "7", "VERSION_1")
    assert balloon.negotiated(virtio.REPORTING) is True
    assert balloon.negotiated(virtio.FREE_PAGE_HINT) is False
    assert (balloon.driver, balloon.is_running) == ("virtio_balloon", True)


def test_features_that_cannot_be_read_are_unknown(tmp_path: Path) -> None:
    """Not taken for features that are off."""
    plant(tmp_path, device="0x0005")
    (balloon,) = virtio.balloons(tmp_path)
    assert balloon.negotiated(virtio.REPORTING) is None
    assert balloon.feature_names() == ()
    assert balloon.is_running is None


def test_other_devices_are_no_balloons(tmp_path: Path) -> None:
    """A disk, a network card, and one whose kind cannot be read."""
    plant(tmp_path, "virtio0", device="0x0002")
    plant(tmp_path, "virtio1", device="0x0001")
    plant(tmp_path, "virtio2", device="rubbish")
    assert virtio.balloons(tmp_path) == ()
    assert [one.device_id for one in virtio.devices(tmp_path) or ()] == [2, 1]


def test_bus_that_is_not_there_is_not_an_empty_one(tmp_path: Path) -> None:
    """None for no bus; an empty one has no devices."""
    assert virtio.devices(tmp_path) is None
    (tmp_path / virtio.DEVICES).mkdir(parents=True)
    assert virtio.devices(tmp_path) == ()


def test_balloon_without_a_driver_cannot_grow(tmp_path: Path) -> None:
    """The device is there, and nothing lets it take memory."""
    plant(tmp_path, device="0x0005", driver=None)
    (found,) = presence.find(tmp_path)
    assert found.works is False
    assert "driver None" in found.evidence


def test_driver_that_is_not_ready_does_not_work(tmp_path: Path) -> None:
    """DRIVER_OK is missing from the status; where the status cannot be read, nobody knows."""
    plant(tmp_path, "virtio0", device="0x0005", status="0x00000003")
    plant(tmp_path, "virtio1", device="0x0005")
    assert [one.works for one in presence.find(tmp_path)] == [False, None]


def test_it_is_available_if_one_of_the_balloons_works(tmp_path: Path) -> None:
    """One that works is enough; without one, one of which nobody knows leaves it open."""
    answers = []
    plant(tmp_path, "virtio0", device="0x0005", status="0x00000003")
    for name, files in {"virtio1": {}, "virtio2": {"status": "0x0000000f"}}.items():
        answers.append(availability(tmp_path))
        plant(tmp_path, name, device="0x0005", **files)
    assert [*answers, availability(tmp_path)] == [False, None, True]


def test_dynamic_memory_of_hyperv_is_told_from_its_other_devices(tmp_path: Path) -> None:
    """By the class; and it works only with a driver."""
    for name, kind in (
        ("a", "{525074DC-8985-46e2-8057-a307dc18a502}"),
        ("b", "{f8615163-df3e-46c5-913f-f2d2f965ed0e}"),
    ):
        path = tmp_path / "sys/bus/vmbus/devices" / name
        path.mkdir(parents=True)
        (path / "class_id").write_text(kind + "\n")
    (found,) = presence.find(tmp_path)
    assert (found.kind, found.name, found.works) == ("hyperv", "a", False)
    (tmp_path / "sys/bus/vmbus/devices/a/driver").symlink_to("../../../bus/vmbus/drivers/hv_balloon")
    assert [one.works for one in presence.find(tmp_path)] == [True]


def test_page_reporting_is_told_by_its_bit(tmp_path: Path) -> None:
    """Yes, no, or unknown where there is no balloon, or its features cannot be read."""
    from weighbridge_balloon.driver import find
    from weighbridge_balloon.hypervisor import detect
    from weighbridge_balloon.hypervisor.cpuid import Denied

    answers = []
    for name, files in {
        "none": {},
        "unreadable": {"device": "0x0005"},
        "off": {"device": "0x0005", "features": "01100000"},
        "on": {"device": "0x0005", "features": "01100100"},
    }.items():
        if files:
            plant(tmp_path / name, **files)
        driver = find(detect(tmp_path / name, Denied("not here"), {}), tmp_path / name)
        (fact,) = [fact for fact in driver.facts() if fact.subject == "page reporting"]
        answers.append((driver.pages_are_reported, fact.finding))
    assert answers == [(None, None), (None, None), (False, "no"), (True, "yes")]


def test_balloons_of_windows_are_drivers_that_have_a_device() -> None:
    """A service without a device is installed everywhere; one with a device is a balloon."""
    keys = {r"SYSTEM\CurrentControlSet\Services\BALLOON\Enum": {"0": r"PCI\VEN_1AF4&DEV_1045\3&11583659&0&30"}}
    (found,) = presence.on_windows(lambda key: keys.get(key, {}))
    assert (found.kind, found.name, found.works) == ("virtio", "BALLOON", True)
    assert "VEN_1AF4" in found.evidence


@pytest.mark.skipif(sys.platform == "win32", reason="users are another matter there")
def test_closed_folders_are_unknown_to_ordinary_users(tmp_path: Path) -> None:
    """A tree that cannot be looked into raises nothing, as debugfs on this machine does not; and nobody says no."""
    program = """
import os, sys
import weighbridge_balloon.hypervisor.linux
from pathlib import Path
from weighbridge_balloon.driver import find
from weighbridge_balloon.hypervisor import detect, detect_here
from weighbridge_balloon.hypervisor.cpuid import Denied
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
find(detect_here())
closed = Path(sys.argv[1])
driver = find(detect(closed, Denied("not here"), {}), closed)
print(driver.hypervisor.kind, driver.hypervisor.container.name, driver.is_available, driver.pages_are_reported)
"""
    closed = tmp_path / "closed"
    plant(closed, device="0x0005")
    (closed / ".dockerenv").touch()
    closed.chmod(0)
    try:
        run = subprocess.run([sys.executable, "-c", program, closed], capture_output=True, text=True, check=False)
    finally:
        closed.chmod(0o700)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["unknown", "None", "None", "None"]
