"""The monitor: levels, hysteresis, and what follows from them."""

from __future__ import annotations

import itertools
import threading

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from weighbridge_hookspecs.records import PressureLevel

from weighbridge.hooks import Hooks
from weighbridge.limits import OutsideLimit
from weighbridge.pressure.ceiling import Ceiling
from weighbridge.pressure.monitor import MemoryMonitor
from weighbridge.pressure.relief import Relief
from weighbridge.pressure.settings import MemorySettings

MIB = 1 << 20
SETTINGS = MemorySettings(ceiling_bytes=100 * MIB, pressure_threshold=0.8, enabled=True)
THRESHOLD = 80 * MIB
RELIEF = 75 * MIB


@attrs.define
class Scene:
    """A process whose usage the test says, idle buffers that can go, and what the monitor told."""

    usage: int = 10 * MIB
    idle: int = 0
    limit: OutsideLimit | None = None
    changes: list[tuple[PressureLevel, int, str]] = attrs.field(factory=list)
    sizes: list[int] = attrs.field(factory=list)
    hooks: Hooks = attrs.field(factory=Hooks)
    relief: Relief = attrs.field(init=False)
    monitor: MemoryMonitor = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.relief = Relief(self.hooks, self.resident_bytes, dict)
        self.relief.give_back = self.give_back
        self.monitor = MemoryMonitor(
            SETTINGS,
            Ceiling(SETTINGS.ceiling_bytes, lambda: self.limit),
            self.resident_bytes,
            self.relief,
            lambda level, nbytes, reason: self.changes.append((level, nbytes, reason)),
            self.sizes.append,
        )

    def resident_bytes(self) -> int:
        return self.usage

    def give_back(self, nbytes: int) -> int:
        went = min(self.idle, nbytes)
        self.idle -= went
        self.usage -= went
        return went

    def check(self, usage: int, idle: int = 0) -> PressureLevel:
        self.usage, self.idle = usage, idle
        return self.monitor.check()


def test_below_the_threshold_nothing_happens() -> None:
    """At the threshold itself neither."""
    scene = Scene()
    assert [scene.check(nbytes) for nbytes in (0, 10 * MIB, THRESHOLD)] == ["nominal"] * 3
    assert (scene.changes, len(scene.relief.reactions)) == ([], 0)


def test_above_it_room_is_made_and_all_is_well_again() -> None:
    """As much as brings usage a sixteenth below the threshold; observers hear of both changes."""
    scene = Scene()
    assert scene.check(90 * MIB, idle=50 * MIB) == "nominal"
    assert scene.usage == RELIEF
    reaction = scene.relief.last
    assert reaction is not None
    assert (reaction.occasion, reaction.wanted_bytes, reaction.freed_bytes) == ("pressure", 15 * MIB, 15 * MIB)
    assert scene.changes == [
        ("elevated", 90 * MIB, "90.0 MiB of 100.0 MiB are in use (90%), and the threshold is 80%"),
        ("nominal", 75 * MIB, "75.0 MiB of 100.0 MiB are in use (75%), and the threshold is 80%"),
    ]


def test_between_the_two_the_level_stays_what_it_was() -> None:
    """Hysteresis: a process at the threshold does not go to and fro."""
    scene = Scene()
    between = RELIEF + 1
    assert scene.check(between) == "nominal"
    assert scene.check(90 * MIB, idle=12 * MIB) == "elevated"
    assert scene.usage == 78 * MIB
    assert [scene.check(between), scene.check(THRESHOLD), scene.check(RELIEF)] == ["elevated", "elevated", "nominal"]
    assert scene.check(THRESHOLD) == "nominal"
    assert [level for level, *_ in scene.changes] == ["elevated", "nominal"]
    assert len(scene.relief.reactions) == 1


def test_if_nothing_helps_it_is_critical_and_nobody_comes_in() -> None:
    """Until usage is below the threshold by a sixteenth; the refusal has the figures."""
    scene = Scene()
    assert scene.monitor.refusal() is None
    assert scene.check(90 * MIB) == "critical"
    assert [level for level, *_ in scene.changes] == ["elevated", "critical"]
    assert scene.monitor.refusal() == (
        "memory pressure is critical: 90.0 MiB of 100.0 MiB are in use (90%), and the threshold is 80%"
    )
    assert scene.check(78 * MIB) == "critical"
    scene.usage = RELIEF
    checks = scene.monitor.statistics().checks
    assert scene.monitor.refusal(dry_run=True) is not None
    assert scene.monitor.statistics().checks == checks
    assert scene.monitor.refusal() is None
    assert scene.monitor.level == "nominal"


def test_what_did_not_help_is_not_repeated_at_every_check() -> None:
    """But it is after a while, and as soon as usage has grown."""
    scene = Scene()
    counts = []
    for usage in [90] * 8 + [91, 92, 93]:
        scene.check(usage * MIB)
        counts.append(len(scene.relief.reactions))
    assert counts == [1, 1, 1, 1, 1, 1, 2, 2, 2, 3, 3]
    scene.check(THRESHOLD)
    scene.check(90 * MIB)
    assert len(scene.relief.reactions) == 4


def test_a_limit_from_outside_counts_if_it_is_lower() -> None:
    """Threshold and refusals follow it, and the ceiling of buffers hears of it."""
    scene = Scene()
    scene.limit = OutsideLimit(nbytes=50 * MIB, source="/sys/fs/cgroup/memory.max")
    assert scene.check(45 * MIB) == "critical"
    assert (scene.monitor.ceiling_bytes, scene.monitor.threshold_bytes) == (50 * MIB, 40 * MIB)
    statistics = scene.monitor.statistics()
    assert (statistics.own_ceiling_bytes, statistics.outside_limit_bytes) == (100 * MIB, 50 * MIB)
    assert statistics.outside_limit_source == "/sys/fs/cgroup/memory.max"
    scene.limit = OutsideLimit(nbytes=200 * MIB, source="/sys/fs/cgroup/memory.max")
    assert scene.check(45 * MIB) == "nominal"
    assert scene.sizes == [50 * MIB, 100 * MIB]


def test_an_observer_may_look_again_while_it_is_told() -> None:
    """A check inside of a check does nothing, and does not wait for itself."""
    scene = Scene()
    scene.monitor._changed = lambda level, nbytes, reason: scene.changes.append((scene.monitor.check(), nbytes, reason))
    assert scene.check(90 * MIB, idle=90 * MIB) == "nominal"
    assert [level for level, *_ in scene.changes] == ["elevated", "nominal"]
    assert scene.monitor.statistics().checks == 1


def test_a_check_waits_for_another_one_if_it_is_told_to() -> None:
    """Whoever wants to know how things are now does not get what was so before the one under way."""
    scene = Scene()
    inside, go_on = threading.Event(), threading.Event()

    def told(level: PressureLevel, nbytes: int, reason: str) -> None:
        inside.set()
        go_on.wait()

    scene.monitor._changed = told
    first = threading.Thread(target=scene.check, args=(90 * MIB,))
    first.start()
    inside.wait()
    assert (scene.monitor.check(), scene.monitor.statistics().checks) == ("elevated", 1)
    threading.Timer(0.05, go_on.set).start()
    assert scene.monitor.check(wait_seconds=60) == "critical"
    assert scene.monitor.statistics().checks == 2
    first.join()


def test_statistics_say_where_it_stands() -> None:
    """Frozen."""
    scene = Scene()
    scene.check(90 * MIB)
    statistics = scene.monitor.statistics()
    assert (statistics.level, statistics.usage_bytes, statistics.ceiling_bytes) == ("critical", 90 * MIB, 100 * MIB)
    assert (statistics.threshold_bytes, statistics.checks, statistics.reactions) == (THRESHOLD, 1, 1)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        statistics.level = "nominal"  # type: ignore[misc]


@given(st.lists(st.tuples(st.integers(0, 110 * MIB), st.integers(0, 40 * MIB)), max_size=30))
def test_levels_follow_usage_whatever_it_does(course: list[tuple[int, int]]) -> None:
    """Nominal needs usage at the relief point or one that never rose; above the threshold it is never nominal."""
    scene = Scene()
    for usage, idle in course:
        before = scene.monitor.level
        level = scene.check(usage, min(idle, usage))
        if scene.usage > THRESHOLD:
            assert level != "nominal"
        elif scene.usage <= RELIEF:
            assert level == "nominal"
        elif usage <= THRESHOLD:
            assert level == before
        assert (scene.monitor.refusal() is not None) == (level == "critical")
    levels = ["nominal", *(level for level, *_ in scene.changes)]
    assert all(first != second for first, second in itertools.pairwise(levels))
    assert ("nominal", "critical") not in set(itertools.pairwise(levels))
