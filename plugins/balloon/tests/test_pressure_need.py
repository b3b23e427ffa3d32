"""How much is to be released: arithmetic on figures, and the pace of a balloon."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge_balloon.gauge import Figures
from weighbridge_balloon.need import by_growth, bytes_to_release, default_reserve, for_target, is_stuck, when_stuck
from weighbridge_balloon.pace import Pace

MIB = 1024 * 1024
SIZES = st.integers(0, 2**50)
WISHES = st.integers(-(2**50), 2**50)


@given(wanted=WISHES, reserve=SIZES, available=SIZES)
def test_what_is_released_is_enough_and_not_more(wanted: int, reserve: int, available: int) -> None:
    """With it, the hypervisor gets what it wants and the reserve stays; unless that held before, nothing is over."""
    released = for_target(wanted=wanted, reserve=reserve, available=available)
    assert available + released - wanted >= reserve
    assert released == 0 or available + released - wanted == reserve


@given(wanted=WISHES, reserve=SIZES, available=SIZES, moved=st.integers(0, 2**40))
def test_a_balloon_that_moves_changes_nothing(wanted: int, reserve: int, available: int, moved: int) -> None:
    """What the balloon takes between two looks leaves the wish and the available memory by as much."""
    before = for_target(wanted=wanted, reserve=reserve, available=available)
    assert for_target(wanted=wanted - moved, reserve=reserve, available=available - moved) == before


@given(growth=st.floats(0, 1e12), horizon=st.floats(0, 60), reserve=SIZES, available=SIZES)
def test_growth_is_given_room_for_the_horizon(growth: float, horizon: float, reserve: int, available: int) -> None:
    """After so many seconds of the same growth the reserve is there still."""
    released = by_growth(growth=growth, horizon=horizon, reserve=reserve, available=available)
    assert available + released - int(growth * horizon) >= reserve
    assert released <= int(growth * horizon) + reserve


@given(actual=SIZES, baseline=SIZES, growth=st.floats(0, 1e12), reserve=SIZES, available=SIZES)
def test_stuck_balloon_is_given_more_than_one_that_stands(
    actual: int, baseline: int, growth: float, reserve: int, available: int
) -> None:
    """Only one that holds something, does not grow, and finds little is stuck; it gets a reserve's worth beyond."""
    stuck = is_stuck(actual=actual, baseline=baseline, growth=growth, reserve=reserve, available=available)
    assert stuck == (actual > baseline and growth == 0 and available < reserve)
    if stuck:
        beyond = when_stuck(reserve=reserve, available=available) - (reserve - available)
        assert beyond == reserve


FIGURES = st.builds(
    Figures,
    total_bytes=st.none() | SIZES,
    available_bytes=st.none() | SIZES,
    balloon_bytes=st.none() | SIZES,
    wanted_bytes=st.none() | WISHES,
)


@given(figures=FIGURES, reserve=SIZES, growth=st.floats(0, 1e12), baseline=st.none() | SIZES)
def test_any_figures_give_bytes_or_nothing(figures: Figures, reserve: int, growth: float, baseline: int | None) -> None:
    """Never below 0, and unknown exactly where the available memory is."""
    released = bytes_to_release(figures, reserve=reserve, growth=growth, horizon=0.5, baseline=baseline)
    assert (released is None) == (figures.available_bytes is None)
    assert released is None or released >= 0


@given(figures=FIGURES, reserve=SIZES, more=st.integers(0, 2**40))
def test_the_more_is_available_the_less_is_released(figures: Figures, reserve: int, more: int) -> None:
    """Whichever rule applies, memory that is there need not be released."""
    if figures.available_bytes is None:
        return
    richer = attrs.evolve(figures, available_bytes=figures.available_bytes + more)
    needs = [bytes_to_release(one, reserve=reserve, baseline=0) for one in (figures, richer)]
    assert needs[0] is not None
    assert needs[1] is not None
    assert needs[1] <= needs[0]


def test_target_goes_before_growth() -> None:
    """Where the target is seen, the pace does not matter."""
    figures = Figures(available_bytes=0, balloon_bytes=10, wanted_bytes=100)
    assert bytes_to_release(figures, reserve=7, growth=1e9, horizon=10, baseline=0) == 107


def test_case_that_was_measured_in_a_virtual_machine() -> None:
    """A balloon of 342 MiB that is to have 644, with nothing available: all that it lacks, and the reserve."""
    figures = Figures(available_bytes=0, balloon_bytes=342 * MIB, wanted_bytes=302 * MIB)
    assert bytes_to_release(figures, reserve=64 * MIB) == 366 * MIB


@given(total=st.none() | SIZES, balloon=st.none() | SIZES)
def test_reserve_is_a_part_within_bounds(total: int | None, balloon: int | None) -> None:
    """Whatever the machine says of itself; what the balloon holds is part of it."""
    reserve = default_reserve(Figures(total_bytes=total, balloon_bytes=balloon))
    assert 32 * MIB <= reserve <= 256 * MIB


def test_reserve_is_the_same_whatever_the_balloon_holds() -> None:
    """A balloon that takes from the total does not make the reserve smaller."""
    full = default_reserve(Figures(total_bytes=1024 * MIB, balloon_bytes=0))
    assert default_reserve(Figures(total_bytes=300 * MIB, balloon_bytes=724 * MIB)) == full == 64 * MIB


# -- pace --------------------------------------------------------------------------------------------------------------


def paced(*sizes: tuple[float, int | None]) -> Pace:
    pace = Pace()
    for seconds, size in sizes:
        pace.note(seconds, size)
    return pace


def test_pace_of_nothing_is_0() -> None:
    """Without two sizes nothing has grown, and without one there is no baseline."""
    assert (paced().growth, paced().baseline) == (0, None)
    assert (paced((0, 5), (1, None)).growth, paced((0, 5)).baseline) == (0, 5)


def test_growth_is_bytes_a_second() -> None:
    """Over the last half second, however many looks there were."""
    assert paced((0, 0), (0.1, 30 * MIB), (0.2, 60 * MIB)).growth == pytest.approx(300 * MIB)


def test_growth_of_long_ago_is_forgotten() -> None:
    """A balloon that has stood still for half a second does not grow."""
    assert paced((0, 0), (0.2, 100), (0.4, 100), (0.7, 100), (0.9, 100)).growth == 0


def test_pause_between_two_tries_is_no_stop() -> None:
    """The driver sleeps 200 ms when it finds nothing; it grows all the same."""
    assert paced((0, 0), (0.2, 100), (0.4, 100), (0.45, 150)).growth > 0


def test_looks_far_apart_see_growth() -> None:
    """Two looks are enough, however long ago the first was."""
    assert paced((0, 0), (100, 500)).growth == 5


def test_shrinking_is_no_growth() -> None:
    """A balloon that gives back has pace 0, and a new baseline."""
    pace = paced((0, 500), (0.1, 200))
    assert (pace.growth, pace.baseline) == (0, 200)


@given(st.lists(st.tuples(st.floats(0, 5), SIZES), max_size=40))
def test_any_course_has_a_pace(steps: list[tuple[float, int]]) -> None:
    """Whatever the sizes and however quickly they come, also at the same moment."""
    pace, now = Pace(), 0.0
    for pause, size in steps:
        now += pause
        pace.note(now, size)
        assert pace.growth >= 0
    assert pace.baseline == (min(size for _, size in steps) if steps else None)
