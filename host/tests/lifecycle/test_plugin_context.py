"""What a plugin's constructor is given: everything is a lease."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from weighbridge_hookspecs import BudgetView, ContextClosed

from weighbridge.leases.capabilities import CapabilityRegistry
from weighbridge.leases.charges import Charges
from weighbridge.leases.ledger import LeaseLedger
from weighbridge.lifecycle.context import HostContext, frozen_settings
from weighbridge.lifecycle.services import Services
from weighbridge.reclaim.watch import Watched

BUDGET = BudgetView(load_bytes=None, peak_bytes=None, held_bytes=0, headroom_bytes=None)


@attrs.define
class Desk:
    """A context, and the books that it writes into."""

    leases: LeaseLedger = attrs.field(factory=LeaseLedger)
    charges: Charges = attrs.field(factory=Charges)
    tracked: list[Watched] = attrs.field(factory=list)
    services: Services = attrs.field(factory=Services)

    def context(self, **settings: Any) -> HostContext:
        return HostContext(
            "lamp",
            leases=self.leases,
            charges=self.charges,
            tracked=self.tracked,
            settings=frozen_settings(settings),
            services=self.services,
            capabilities=CapabilityRegistry(),
            budget=lambda: BUDGET,
            relieve=lambda nbytes, level, owner: nbytes,
        )


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.leases.revoke()
    assert made.services.close() == []


def test_every_call_is_in_the_ledger_and_comes_back_in_reverse(desk: Desk) -> None:
    """Under the names that a receipt shows."""
    context = desk.context()
    context.charge(4096, "arena")
    context.every(3600, list, name="trim")
    context.spawn(lambda stop: stop.wait(), name="watch")
    assert desk.leases.statistics().held == {"log": 1, "charge": 1, "timer": 1, "thread": 1}
    assert (desk.services.scheduler.statistics().timers, desk.services.scheduler.statistics().threads) == (1, 1)
    assert desk.leases.revoke().failures == ()
    assert (desk.services.scheduler.statistics().timers, desk.services.scheduler.statistics().threads) == (0, 0)
    assert desk.charges.total_bytes == 0


def test_a_lease_that_was_given_back_early_is_not_revoked_again(desk: Desk) -> None:
    """A plugin may tidy up by itself."""
    lease = desk.context().charge(4096, "arena")
    lease.release()
    lease.release()
    assert desk.charges.total_bytes == 0
    assert desk.leases.revoke().revoked == {"log": 1}


@pytest.mark.parametrize("nbytes", [-1, True, 1.5, "4096"])
def test_only_a_number_of_bytes_can_be_charged(desk: Desk, nbytes: Any) -> None:
    """A negative charge would take off what others put on."""
    with pytest.raises(ValueError, match=r"^lamp: .* cannot be charged; give a number of bytes from 0 up$"):
        desk.context().charge(nbytes, "arena")
    assert desk.charges.total_bytes == 0


def test_what_is_tracked_is_given_back_and_not_held(desk: Desk) -> None:
    """It is watched by a weak reference, so that watching it does not keep it alive."""

    class Wick:
        pass

    wick = Wick()
    assert desk.context().track(wick) is wick
    assert [(one.kind, one.reference()) for one in desk.tracked] == [("tracked", wick)]
    del wick
    assert [one.reference() for one in desk.tracked] == [None]


def test_what_has_no_weak_references_cannot_be_tracked(desk: Desk) -> None:
    """The error says what to track instead."""
    with pytest.raises(TypeError) as caught:
        desk.context().track([1, 2, 3])
    assert str(caught.value) == (
        "lamp: a list cannot be tracked, for it has no weak references; track the object that owns it"
    )


def test_who_asks_for_relief_is_named(desk: Desk) -> None:
    """So that it is not asked itself; nonsense is refused before anybody is."""
    assert desk.context().relieve(5000, level="critical") == 5000
    for wrong in (-1, True, 1.5, "5000"):
        with pytest.raises(ValueError, match=r"lamp: .* is nothing to release; give a number of bytes from 0 up"):
            desk.context().relieve(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="lamp: 'high' is no level; take one of: nominal, elevated, critical"):
        desk.context().relieve(1, level="high")  # type: ignore[arg-type]


def test_after_the_unload_nothing_is_lent(desk: Desk) -> None:
    """What was started in the attempt is stopped again."""
    context = desk.context()
    desk.leases.revoke()
    calls: dict[str, Callable[[], object]] = {
        "timer ('lamp.list')": lambda: context.every(0.001, list),
        "thread ('lamp.<lambda>')": lambda: context.spawn(lambda stop: stop.wait()),
        "charge ('arena')": lambda: context.charge(4096, "arena"),
    }
    for kind, call in calls.items():
        with pytest.raises(ContextClosed) as caught:
            call()
        assert str(caught.value) == (
            f"lamp: asked for a {kind} after it was unloaded. Drop the context in weighbridge_deactivate"
        )
    statistics = desk.services.scheduler.statistics()
    assert (statistics.timers, statistics.threads, desk.charges.total_bytes) == (0, 0, 0)


def test_settings_are_read_only_all_the_way_down() -> None:
    """A plugin cannot change what the next generation is given."""
    settings = frozen_settings({"oil": {"litres": 3}, "wick": "long"})
    assert settings == {"oil": {"litres": 3}, "wick": "long"}
    with pytest.raises(TypeError):
        settings["wick"] = "short"  # type: ignore[index]
    with pytest.raises(TypeError):
        settings["oil"]["litres"] = 4


def test_the_rest_is_passed_through(desk: Desk) -> None:
    """Name, budget, settings and capabilities."""
    context = desk.context(seconds=3)
    assert (context.name, context.budget, context.settings["seconds"]) == ("lamp", BUDGET, 3)
    assert "light" not in context.capabilities
    assert context.log.name == "weighbridge.plugins.lamp"


class Spoiled(logging.Handler):
    """A handler of a plugin's that cannot be closed."""

    def close(self) -> None:
        super().close()
        raise OSError("the pipe is broken")


def test_a_logger_is_given_back_as_it_was_found(desk: Desk) -> None:
    """Loggers live for ever: what the plugin hung on it goes, what the application did stays, and it is as loud."""
    log = logging.getLogger("weighbridge.plugins.lamp")
    own, ours = logging.NullHandler(), logging.Filter("weighbridge")
    log.addHandler(own)
    log.addFilter(ours)
    log.setLevel(logging.ERROR)
    try:
        context = desk.context()
        closed = threading.Event()
        stranger = logging.NullHandler()
        stranger.close = closed.set  # type: ignore[method-assign]
        context.log.addHandler(stranger)
        context.log.addFilter(logging.Filter("lamp"))
        context.log.setLevel(logging.DEBUG)
        context.log.propagate = False
        assert desk.leases.revoke().failures == ()
        assert (log.handlers, log.filters, log.level, log.propagate) == ([own], [ours], logging.ERROR, True)
        assert closed.is_set()
    finally:
        log.removeHandler(own)
        log.removeFilter(ours)
        log.setLevel(logging.NOTSET)


def test_a_handler_that_cannot_be_closed_does_not_stop_the_others(desk: Desk) -> None:
    """All of them are off the logger, and the failures are named."""
    log = desk.context().log
    for _ in range(2):
        log.addHandler(Spoiled())
    failures = desk.leases.revoke().failures
    assert log.handlers == []
    assert failures == (
        "log 'weighbridge.plugins.lamp': RuntimeError: OSError: the pipe is broken; OSError: the pipe is broken",
    )
