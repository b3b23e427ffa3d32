"""The limit that follows load, with loads and clocks made up."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weighbridge_hookspecs import ConfigurationError

from weighbridge_wasm.concurrency import ConcurrencyControl, own_bounds, smoothed
from weighbridge_wasm.cores import Cores

SHARES = st.floats(0, 1)
SECONDS = st.floats(0.01, 1000)


@attrs.define
class Machine:
    """Load and time as a test wants them; what a gate was told."""

    load: float | None = 0.0
    now: float = 100.0
    told: list[int] = attrs.Factory(list)

    def sample(self) -> float | None:
        return self.load

    def close(self) -> None:
        raise AssertionError("the source belongs to whoever made it")

    def control(self, cores: int = 4, **settings: Any) -> ConcurrencyControl:
        found = Cores(count=cores, share=float(cores), source="affinity")
        return ConcurrencyControl(found, self, self.told.append, clock=lambda: self.now, **settings)

    def run(self, control: ConcurrencyControl, *loads: float | None, seconds: float = 10.0) -> list[int]:
        """The limit after each tick."""
        limits = []
        for load in loads:
            self.load = load
            self.now += seconds
            limits.append(control.tick())
        return limits


# --- the rule ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cores", "bounds"), [(1, (1, 2)), (2, (1, 4)), (3, (2, 6)), (5, (3, 10)), (64, (32, 128))])
def test_range_is_from_half_of_the_cores_to_twice_as_many(cores: int, bounds: tuple[int, int]) -> None:
    """Half of an odd number is rounded up, and the first limit is the cores."""
    machine = Machine()
    control = machine.control(cores)
    found = control.statistics()
    assert own_bounds(cores) == (found.floor, found.ceiling) == bounds
    assert control.limit == found.limit == cores
    assert machine.told == []


def test_limit_goes_one_step_at_a_time() -> None:
    """Up while there is room, down while there is none; the gate is told of each change and of nothing else."""
    machine = Machine()
    control = machine.control(2)
    assert machine.run(control, 0.1, 0.1, 0.1) == [3, 4, 4]
    assert machine.run(control, *[1.0] * 8)[-1] == 1
    assert machine.told == [3, 4, 3, 2, 1]


@pytest.mark.parametrize(("load", "limit"), [(0.0, 5), (0.499, 5), (0.5, 4), (0.65, 4), (0.8, 4), (0.801, 3), (1.0, 3)])
def test_marks_belong_to_the_band_in_between(load: float, limit: int) -> None:
    """Below 50 % it goes up, above 80 % down; the first sample counts as it is."""
    machine = Machine()
    assert machine.run(machine.control(4), load) == [limit]


def test_one_busy_moment_moves_nothing() -> None:
    """A sample weighs as much as the time it tells of: after 10 s of 30 it is 28 % of the average."""
    machine = Machine()
    control = machine.control(4)
    assert machine.run(control, 0.6, 1.0) == [4, 4]
    assert control.statistics().load == pytest.approx(0.6 + 0.4 * (1 - math.exp(-1 / 3)))
    assert machine.run(control, 1.0, 1.0, 1.0) == [4, 3, 2]


def test_marks_and_smoothing_are_settings() -> None:
    """A time constant that is tiny follows each sample."""
    machine = Machine()
    control = machine.control(4, low=0.2, high=0.3, interval_seconds=0.5, smoothing_seconds=1e-6)
    assert control.interval_seconds == 0.5
    assert machine.run(control, 0.25, 0.19, 0.31, 0.21) == [4, 5, 4, 4]


@pytest.mark.parametrize(
    "settings",
    [
        {"low": 0.9, "high": 0.5},
        {"low": -0.1},
        {"high": 1.1},
        {"low": math.nan},
        {"interval_seconds": 0},
        {"interval_seconds": math.inf},
        {"interval_seconds": "10"},
        {"smoothing_seconds": -1.0},
        {"smoothing_seconds": True},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    """With a word of what would."""
    with pytest.raises(ConfigurationError):
        Machine().control(**settings)


# --- properties -------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    st.integers(1, 300),
    st.lists(st.tuples(st.none() | st.floats() | SHARES, st.floats(-50, 50)), max_size=60),
    st.none() | st.integers(1, 40),
    st.none() | st.integers(1, 40),
)
def test_bounds_are_never_left(
    cores: int, ticks: list[tuple[float | None, float]], floor: int | None, ceiling: int | None
) -> None:
    """Whatever the loads, the clock and the range; and the counters add up."""
    machine = Machine()
    control = machine.control(cores)
    if floor is None or ceiling is None or floor <= ceiling:
        control.set_bounds(floor=floor, ceiling=ceiling)
    found = control.statistics()
    limit = control.limit
    for load, seconds in ticks:
        (after,) = machine.run(control, load, seconds=seconds)
        assert found.floor <= after <= found.ceiling
        assert abs(after - limit) <= 1
        limit = after
    found = control.statistics()
    assert found.ticks == len(ticks) == found.ups + found.downs + found.holds + found.failures
    assert machine.told[-1:] in ([], [limit])


@settings(deadline=None)
@given(st.integers(1, 64), st.lists(st.tuples(SHARES, SHARES, SECONDS), min_size=1, max_size=40))
def test_more_load_never_means_a_higher_limit(cores: int, ticks: list[tuple[float, float, float]]) -> None:
    """Of two machines that tick alike, the one with more load at each tick has the lower limit, or the same."""
    calm, busy = Machine(), Machine()
    controls = calm.control(cores), busy.control(cores)
    for one, other, seconds in ticks:
        (high,) = calm.run(controls[0], min(one, other), seconds=seconds)
        (low,) = busy.run(controls[1], max(one, other), seconds=seconds)
        assert low <= high


@settings(deadline=None)
@given(st.integers(1, 64), st.lists(st.tuples(st.floats(0.501, 0.799), SECONDS), max_size=40))
def test_nothing_changes_within_the_band(cores: int, ticks: list[tuple[float, float]]) -> None:
    """Loads between the marks have an average between the marks."""
    machine = Machine()
    control = machine.control(cores)
    for load, seconds in ticks:
        assert machine.run(control, load, seconds=seconds) == [cores]
    assert machine.told == []


@settings(deadline=None)
@given(SHARES, SHARES, SECONDS, SECONDS, SECONDS)
def test_average_follows_time_and_not_the_number_of_samples(
    average: float, sample: float, first: float, second: float, smoothing: float
) -> None:
    """Two samples alike in two times are the same as one in both, and the average stays between old and new."""
    twice = smoothed(smoothed(average, sample, first, smoothing), sample, second, smoothing)
    assert twice == pytest.approx(smoothed(average, sample, first + second, smoothing), abs=1e-9)
    assert min(average, sample) - 1e-12 <= twice <= max(average, sample) + 1e-12
    assert smoothed(None, sample, first, smoothing) == sample


# --- clocks and sources that fail -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.0, -5.0, math.nan])
def test_clock_that_does_not_go_on_holds_the_limit(seconds: float) -> None:
    """Nothing is asked of the source, and when time goes on so does the rule."""
    machine = Machine()
    control = machine.control(4)
    start = machine.now
    assert machine.run(control, 0.0, 0.0, seconds=seconds) == [4, 4]
    assert control.statistics().holds == 2
    assert control.statistics().last_sample is None
    machine.now = start
    assert machine.run(control, 0.0) == [5]


def test_clock_that_goes_back_counts_on_from_there() -> None:
    """An hour back does not stop the limit for an hour."""
    machine = Machine(now=10_000.0)
    control = machine.control(4)
    assert machine.run(control, 0.0, seconds=-3600.0) == [4]
    assert machine.run(control, 0.0, 0.0) == [5, 6]


@pytest.mark.parametrize("sample", [None, math.nan, -0.1, 1.1, math.inf])
def test_sample_that_is_none_holds_the_limit(sample: float | None) -> None:
    """It is counted, the average stays, and the next one stands for the whole time."""
    machine = Machine()
    control = machine.control(4)
    machine.run(control, 0.6)
    assert machine.run(control, sample, sample) == [4, 4]
    found = control.statistics()
    assert (found.failures, found.load, found.last_sample) == (2, 0.6, 0.6)
    assert repr(sample) in (found.last_failure or "")
    machine.run(control, 1.0)
    assert control.statistics().load == pytest.approx(0.6 + 0.4 * (1 - math.exp(-30 / 30)))


def test_source_that_raises_holds_the_limit() -> None:
    """What it raised is kept as text."""

    class Broken(Machine):
        def sample(self) -> float | None:
            raise OSError("no such file")

    machine = Broken()
    control = machine.control(4)
    assert machine.run(control, 0.0) == [4]
    assert control.statistics().last_failure == "OSError: no such file"


def test_gate_that_refuses_leaves_the_limit_as_it_was() -> None:
    """Its error comes out of the tick, and the next one tries again."""
    machine = Machine(load=0.0)

    def resize(limit: int) -> None:
        machine.told.append(limit)
        if len(machine.told) == 1:
            raise OSError("not now")

    control = ConcurrencyControl(
        Cores(count=4, share=4.0, source="affinity"), machine, resize, clock=lambda: machine.now
    )
    with pytest.raises(OSError, match="not now"):
        machine.run(control, 0.0)
    assert control.limit == 4
    assert machine.run(control, 0.0) == [5]
    assert machine.told == [5, 5]


# --- bounds set by hand -----------------------------------------------------------------------------------------------


def test_ceiling_holds_at_once() -> None:
    """The limit comes down to it in one step and goes no higher."""
    machine = Machine()
    control = machine.control(8)
    assert control.set_bounds(ceiling=5) == 5
    assert machine.run(control, 0.0, 0.0) == [5, 5]
    assert machine.told == [5]
    assert control.statistics().floor == 4


def test_ceiling_below_half_of_the_cores_takes_the_floor_along() -> None:
    """An operator's word is above the rule's."""
    machine = Machine()
    control = machine.control(8)
    assert control.set_bounds(ceiling=2) == 2
    assert machine.run(control, 1.0, 1.0) == [2, 2]
    assert control.set_bounds(floor=20) == 20
    assert (control.statistics().floor, control.statistics().ceiling) == (20, 20)


def test_range_goes_back_to_that_of_the_cores() -> None:
    """Without bounds the rule's own are back, and the limit is not moved if it lies within."""
    machine = Machine()
    control = machine.control(4)
    assert control.set_bounds(floor=6, ceiling=6) == 6
    assert machine.run(control, 1.0, 1.0) == [6, 6]
    assert control.set_bounds() == 6
    assert machine.told == [6]
    assert machine.run(control, 1.0) == [5]


@pytest.mark.parametrize(
    "bounds", [{"floor": 3, "ceiling": 2}, {"floor": 0}, {"ceiling": 0}, {"ceiling": 2.5}, {"floor": True}]
)
def test_bounds_that_make_no_sense_change_nothing(bounds: dict[str, Any]) -> None:
    """They are refused before anybody is told."""
    machine = Machine()
    control = machine.control(4)
    before = control.statistics()
    with pytest.raises(ConfigurationError):
        control.set_bounds(**bounds)
    assert control.statistics() == before
    assert machine.told == []


# --- a loop that is closed --------------------------------------------------------------------------------------------


@attrs.define
class Host(Machine):
    """A machine whose load is its own work: each running call takes a core, others take what they take."""

    cores: int = 2
    clients: int = 6
    others: float = 0.0
    is_external: bool = True
    limit: int = 0

    def own(self) -> float:
        return min(self.limit, self.clients, self.cores - self.others) / self.cores

    def sample(self) -> float | None:
        used = self.others / self.cores
        return used if self.is_external else min(used + self.own(), 1.0)

    def settle(self, control: ConcurrencyControl, *, ticks: int = 60) -> float:
        """Work in cores once the limit has come to rest."""
        for _ in range(ticks):
            self.now += 10.0
            self.limit = control.tick()
        return self.own() * self.cores


@pytest.mark.parametrize("cores", [2, 4, 16])
def test_plain_rule_throttles_itself(cores: int) -> None:
    """Its own work is the load: it goes down (from two cores to one), and what is left is never below the low mark."""
    host = Host(cores=cores, clients=3 * cores, is_external=False, limit=cores)
    control = host.control(cores)
    assert cores / 2 <= host.settle(control) < 0.8 * cores
    at_rest = control.limit
    assert host.settle(control) == at_rest == control.limit
    assert cores > 2 or at_rest == 1


@pytest.mark.parametrize("cores", [2, 4, 16])
def test_load_of_others_does_not_throttle_itself(cores: int) -> None:
    """With nobody else about, all cores are at work."""
    host = Host(cores=cores, clients=3 * cores, limit=cores)
    control = host.control(cores)
    assert host.settle(control) == cores
    assert control.limit == 2 * cores


def test_load_of_others_makes_room_for_them() -> None:
    """A machine that others keep busy gets the least of us, and all of us when they are done."""
    host = Host(cores=4, clients=12, others=3.6, limit=4)
    control = host.control(4)
    host.settle(control)
    assert control.limit == 2
    host.others = 0.0
    host.settle(control)
    assert control.limit == 8
