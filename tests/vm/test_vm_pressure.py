"""Sources of pressure against a kernel that really is short of memory, in control groups of both versions."""

from __future__ import annotations

import select
from collections.abc import Iterator
from typing import Any, Final

import pytest

from .booting import bootable
from .machine import MIB, Machine, machine

pytestmark = [pytest.mark.vm, pytest.mark.checkout]

SECONDS: Final = 30
CACHE: Final = 96 * MIB


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest) -> Iterator[Machine]:
    with machine(bootable(request.config)) as started:
        yield started


@pytest.fixture(scope="module")
def reclaimed(request: pytest.FixtureRequest) -> Any:
    # In a machine of its own: memory is counted in groups of one version or of the other.
    with machine(bootable(request.config)) as other:
        return other.ask("pressure:reclaimed", cache_bytes=24 * MIB, limit_bytes=56 * MIB, seconds=SECONDS)


@pytest.fixture(scope="module")
def slowed(running: Machine) -> Any:
    return running.ask("pressure:slowed_down", cache_bytes=CACHE, high_bytes=64 * MIB, seconds=SECONDS)


def test_group_of_version_1_tells_of_reclaim(reclaimed: Any) -> None:
    """Its levels are listened to, and the first event releases memory."""
    assert reclaimed["sources"] == [
        f"{reclaimed['group']}/memory.pressure_level medium, {reclaimed['group']}/memory.pressure_level critical"
    ]
    reason, _, asked, believed = reclaimed["receipts"][0]
    assert reason.startswith(f"{reclaimed['group']}/memory.pressure_level")
    assert believed >= asked == 4 * MIB


def test_many_events_of_version_1_are_few(reclaimed: Any) -> None:
    """The kernel has hundreds a second; what is heard is what was not heard yet."""
    assert 1 <= reclaimed["events"] <= 20


def test_group_of_version_2_tells_of_waiting(slowed: Any) -> None:
    """Its own pressure is listened to, not the machine's; an event releases what the group lacks."""
    file = "/sys/fs/cgroup/pressed/memory.pressure"
    assert slowed["sources"] == [f"{file} some, {file} full"]
    assert slowed["receipts"]
    reason, _, asked, believed = slowed["receipts"][0]
    assert reason.startswith(file)
    assert "tasks waited" in reason
    assert believed >= asked >= CACHE - 64 * MIB


def test_group_of_version_2_is_below_its_limit_again(slowed: Any) -> None:
    """And the rest of the cache is there still."""
    assert slowed["current"] < 64 * MIB
    assert slowed["kept"] > 0


def test_removed_group_is_gone(running: Machine) -> None:
    """An error on the descriptor, and no event."""
    found = running.ask("pressure:removed")
    assert found["before"] == []
    assert found["events"][0] & select.POLLERR
    assert found["said"] == "gone: /sys/fs/cgroup/passing/memory.pressure is gone"


def test_who_is_not_root_listens_to_the_machine_or_hears_why_not(running: Machine) -> None:
    """Before Linux 6.4, and what was taken over from it, nobody else may set a trigger."""
    found = running.ask("pressure:unprivileged")
    if found["sources"]:
        assert found["sources"] == ["/proc/pressure/memory some", "/proc/pressure/memory full"]
    else:
        assert "only root" in found["notes"][-1]
