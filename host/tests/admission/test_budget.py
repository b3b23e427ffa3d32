"""The budget's arithmetic, tried with whatever numbers hypothesis thinks of."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from weighbridge.admission.budget import Budget, unused_promise

SIZES = st.integers(0, 1 << 40)
budgets = st.builds(Budget, ceiling_bytes=SIZES, usage_bytes=SIZES, promised_bytes=SIZES)


@attrs.define(eq=False)
class Tenant:
    """A plugin that never takes more than it was expected to."""

    estimate: int
    used: int = 0


class HonestPlugins(RuleBasedStateMachine):
    """Plugins come, take what they were promised bit by bit, and go."""

    tenants = Bundle("tenants")

    def __init__(self) -> None:
        super().__init__()
        self.budget = Budget(ceiling_bytes=1000, usage_bytes=100)
        self.inside: list[Tenant] = []

    @rule(target=tenants, estimate=st.integers(0, 1200))
    def come(self, estimate: int) -> Any:
        """Admission: a promise of the whole estimate."""
        if not self.budget.admits(estimate):
            assert self.budget.shortfall_bytes(estimate) > 0
            return multiple()
        self.budget = self.budget.promise(estimate)
        tenant = Tenant(estimate)
        self.inside.append(tenant)
        return tenant

    @rule(tenant=tenants, data=st.data())
    def use(self, tenant: Tenant, data: st.DataObject) -> None:
        """What is taken is in use from then on, and promised no more."""
        share = data.draw(st.integers(0, tenant.estimate - tenant.used))
        tenant.used += share
        self.budget = self._with_usage(share).take_back(share)

    @rule(tenant=consumes(tenants))
    def go(self, tenant: Tenant) -> None:
        """Everything comes back: what was used and what was only promised."""
        self.budget = self._with_usage(-tenant.used).take_back(tenant.estimate - tenant.used)
        self.inside.remove(tenant)

    @invariant()
    def nothing_is_over_the_ceiling(self) -> None:
        """In use and promised together stay below the ceiling, so every promise can be kept."""
        assert self.budget.usage_bytes <= self.budget.ceiling_bytes
        assert self.budget.headroom_bytes >= 0

    @invariant()
    def the_budget_adds_up(self) -> None:
        """The budget is what those who are inside hold and may still take, and nothing else."""
        assert self.budget.usage_bytes == 100 + sum(one.used for one in self.inside)
        assert self.budget.promised_bytes == sum(one.estimate - one.used for one in self.inside)

    def _with_usage(self, share: int) -> Budget:
        return attrs.evolve(self.budget, usage_bytes=self.budget.usage_bytes + share)


TestHonestPluginsStayBelowTheCeiling = HonestPlugins.TestCase
TestHonestPluginsStayBelowTheCeiling.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(budgets, SIZES, SIZES)
def test_refusing_is_monotone(budget: Budget, needs: int, more: int) -> None:
    """What needs more than something refused is refused too, and lacks just as much more."""
    if not budget.admits(needs):
        assert not budget.admits(needs + more)
        assert budget.shortfall_bytes(needs + more) == budget.shortfall_bytes(needs) + more
    else:
        assert budget.admits(max(0, needs - more))


@given(budgets, SIZES)
def test_an_admitted_need_fits_and_a_refused_one_does_not(budget: Budget, needs: int) -> None:
    """Admission is the same as: usage, promises and need together are not above the ceiling."""
    assert budget.admits(needs) == (budget.usage_bytes + budget.promised_bytes + needs <= budget.ceiling_bytes)
    assert budget.admits(needs) == (budget.shortfall_bytes(needs) == 0)


@given(budgets, SIZES)
def test_releasing_the_shortfall_makes_room_and_a_byte_less_does_not(budget: Budget, needs: int) -> None:
    """The shortfall is exact: with so much less in use or so much more ceiling the need fits, and never with less."""
    short = budget.shortfall_bytes(needs)
    ceiling = budget.ceiling_bytes + short
    assert attrs.evolve(budget, ceiling_bytes=ceiling).admits(needs)
    assert not short or not attrs.evolve(budget, ceiling_bytes=ceiling - 1).admits(needs)


@given(budgets, SIZES)
def test_returning_a_share_restores_the_headroom_exactly(budget: Budget, share: int) -> None:
    """A promise that is taken back leaves no trace, and in between it is missing from the headroom."""
    promised = budget.promise(share)
    assert promised.headroom_bytes == budget.headroom_bytes - share
    assert promised.take_back(share) == budget


@given(budgets, st.lists(SIZES, max_size=8), st.randoms())
def test_shares_may_be_returned_in_any_order(budget: Budget, shares: list[int], random: Any) -> None:
    """Whoever goes first, when all have gone the budget is as it was."""
    now = budget
    for share in shares:
        now = now.promise(share)
    random.shuffle(shares)
    for share in shares:
        now = now.take_back(share)
    assert now == budget


@pytest.mark.parametrize("wrong", [-1, 1.0, "1", None, True])
@pytest.mark.parametrize("field", ["ceiling_bytes", "usage_bytes", "promised_bytes"])
def test_a_budget_is_made_of_whole_numbers_from_0_up(field: str, wrong: Any) -> None:
    """Any other figure is refused, by the name of its field."""
    figures: dict[str, Any] = {"ceiling_bytes": 1, "usage_bytes": 1, "promised_bytes": 1, field: wrong}
    with pytest.raises(ValueError, match="from 0 up") as caught:
        Budget(**figures)
    assert str(caught.value) == f"{field} has to be a whole number of bytes from 0 up, not {wrong!r}"


@pytest.mark.parametrize("wrong", [-1, 1.0, "1", None, True])
def test_a_share_is_a_whole_number_from_0_up(wrong: Any) -> None:
    """A negative promise would be a way to take back, and the other way round, so both are refused."""
    budget = Budget(ceiling_bytes=10, usage_bytes=0, promised_bytes=5)
    for call in (budget.promise, budget.take_back):
        with pytest.raises(ValueError, match="from 0 up") as caught:
            call(wrong)
        assert str(caught.value) == f"share_bytes has to be a whole number of bytes from 0 up, not {wrong!r}"


def test_more_than_was_promised_cannot_be_taken_back() -> None:
    """Books that would go below 0 are refused in words."""
    with pytest.raises(ValueError, match="taken back") as caught:
        Budget(ceiling_bytes=10, usage_bytes=0, promised_bytes=5).take_back(6)
    assert str(caught.value) == "6 bytes cannot be taken back of 5 that are promised"


def test_the_headroom_goes_below_0_when_more_is_in_use_than_allowed() -> None:
    """An overdrawn budget is shown as it is, and admits nothing at all."""
    budget = Budget(ceiling_bytes=100, usage_bytes=130, promised_bytes=5)
    assert budget.headroom_bytes == -35
    assert not budget.admits(0)
    assert budget.shortfall_bytes(0) == 35


def test_a_budget_never_changes() -> None:
    """A promise gives a new budget; the old one is as it was, and cannot be assigned to."""
    budget = Budget(ceiling_bytes=100, usage_bytes=0)
    assert budget.promise(10) is not budget
    assert budget.promised_bytes == 0
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        budget.usage_bytes = 1  # type: ignore[misc]


@given(st.none() | SIZES, SIZES)
def test_an_unused_promise_is_what_is_left_of_the_peak(peak: int | None, held: int) -> None:
    """Nothing is left where nothing was declared or the plugin is past its peak; otherwise the difference."""
    left = unused_promise(peak, held)
    assert left >= 0
    if peak is None:
        assert left == 0
    else:
        assert min(held, peak) + left == peak
