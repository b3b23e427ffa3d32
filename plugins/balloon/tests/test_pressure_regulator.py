"""What follows from figures and events: releases, pauses, verdicts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import cast

import attrs
import pytest
from weighbridge_hookspecs import AdmissionRequest, Candidate, ConfigurationError, Deferred, Refused

from weighbridge_balloon.buddy import Offer
from weighbridge_balloon.gauge import Figures
from weighbridge_balloon.handlers import Handlers, Registration
from weighbridge_balloon.regulator import PressureStatistics, Regulator
from weighbridge_balloon.release import Releaser, Standing
from weighbridge_balloon.settings import PressureSettings, read_settings
from weighbridge_balloon.sources.source import Pressure

MIB = 1024 * 1024
EVENT = Pressure(level="elevated", source="psi", evidence="tasks waited")


class Machine:
    """A machine with a balloon, whose clock the test moves."""

    def __init__(self, available: int = 500, wanted: int | None = 0, balloon: int | None = 0) -> None:
        self.available = available * MIB
        self.wanted = None if wanted is None else wanted * MIB
        self.balloon = None if balloon is None else balloon * MIB
        self.now = 100.0
        self.holds = 1000 * MIB
        self.asked: list[int] = []

    def figures(self) -> Figures:
        return Figures(
            total_bytes=1024 * MIB,
            free_bytes=self.available,
            available_bytes=self.available,
            balloon_bytes=self.balloon,
            wanted_bytes=self.wanted,
        )

    def standing(self) -> Standing:
        return Standing(figures=self.figures(), offer=Offer(reportable_bytes=self.available, order=9, is_reported=True))

    def give(self, nbytes: int) -> int:
        self.asked.append(nbytes // MIB)
        released = min(nbytes, self.holds)
        self.holds -= released
        self.available += released
        return released

    def inflate(self, nbytes: int) -> None:
        """The hypervisor takes what it wants, as far as there is any."""
        assert self.balloon is not None
        taken = min(nbytes * MIB, self.available)
        self.balloon += taken
        self.available -= taken
        if self.wanted is not None:
            self.wanted -= taken


@attrs.define
class Desk:
    machine: Machine
    regulator: Regulator
    lease: Registration
    handlers: Handlers


def register(here: Desk, handler: Callable[[int], int]) -> Registration:
    """One more who is asked, after the machine's own."""
    return here.handlers.register(handler)


def desk(machine: Machine, *, group: Callable[[], int] = lambda: 0, **settings: object) -> Desk:
    handlers = Handlers(logging.getLogger("balloon.test"))
    lease = handlers.register(machine.give)
    regulator = Regulator(
        read_settings({"reserve_bytes": 64 * MIB, **settings}),
        machine.figures,
        Releaser(handlers, machine.standing),
        missing_in_group=group,
        clock=lambda: machine.now,
    )
    return Desk(machine, regulator, lease, handlers)


def request(*, defer: bool = False) -> AdmissionRequest:
    candidate = Candidate(name="x", group="weighbridge", value="x:X", distribution="x", version="1")
    return AdmissionRequest(candidate=candidate, estimate_bytes=5 * MIB, estimate_source="declared", defer=defer)


def test_machine_with_enough_is_left_alone() -> None:
    """Nobody is asked, and somebody may come in."""
    here = desk(Machine())
    assert here.regulator.tick() is None
    assert here.regulator.level == "nominal"
    assert here.regulator.verdict(request()) is None
    assert here.machine.asked == []


def test_release_is_what_the_target_needs() -> None:
    """What the hypervisor wants, and the reserve, less what is available; then nothing more."""
    here = desk(Machine(available=100, wanted=300))
    receipt = here.regulator.tick()
    assert receipt is not None
    assert here.machine.asked == [264]
    assert receipt.freed_bytes == 264 * MIB
    here.machine.inflate(300)
    assert here.regulator.tick() is None
    assert here.machine.available == 64 * MIB


def test_balloon_that_moves_while_it_is_looked_at_takes_no_more() -> None:
    """In steps, the whole inflation costs exactly what it needs."""
    here = desk(Machine(available=100, wanted=300))
    for _ in range(20):
        here.regulator.tick()
        here.machine.inflate(30)
        here.machine.now += 0.05
    assert sum(here.machine.asked) == 264


def test_growth_is_followed_where_no_target_is_seen() -> None:
    """The balloon may go on growing for the horizon."""
    here = desk(Machine(available=100, wanted=None), horizon_seconds=0.5)
    here.machine.inflate(30)
    here.machine.now += 0.1
    here.regulator.tick()
    assert here.machine.asked == [150 + 64 - 70]


def test_balloon_that_grows_during_a_release_is_for_the_next_one() -> None:
    """Who gave what was wanted is enough: nobody else is asked because the balloon took it at once."""
    here = desk(Machine(available=100, wanted=None), horizon_seconds=0.5)
    machine, others = here.machine, list[int]()

    def give_and_lose(nbytes: int) -> int:
        released = machine.give(nbytes)
        machine.inflate(150)
        return released

    def ask_in_vain(nbytes: int) -> int:
        others.append(nbytes)
        return 0

    here.lease.release()
    lease = register(here, give_and_lose)
    last = register(here, ask_in_vain)
    machine.inflate(30)
    machine.now += 0.1
    here.regulator.tick()
    assert (machine.asked, others) == ([150 + 64 - 70], [])
    lease.release()
    last.release()


def test_who_only_boasts_does_not_end_a_release() -> None:
    """What is available and what the balloon took say what was freed, and the next one is asked for it."""
    here = desk(Machine(available=100, wanted=300))
    here.lease.release()
    boaster = register(here, lambda nbytes: 1 << 40)
    lease = register(here, here.machine.give)
    here.regulator.tick()
    assert here.machine.asked == [264]
    boaster.release()
    lease.release()


def test_stuck_balloon_gets_more() -> None:
    """It holds something, does not grow, and there is little left: two reserves are to be free."""
    here = desk(Machine(available=100, wanted=None))
    here.machine.inflate(70)
    here.machine.now += 60
    here.machine.inflate(0)
    here.regulator.tick()
    here.machine.now += 60
    here.regulator.tick()
    here.machine.now += 60
    here.machine.available = 10 * MIB
    here.machine.asked.clear()
    here.regulator.tick()
    assert here.machine.asked == [118]


def test_looks_are_sooner_while_the_balloon_moves() -> None:
    """As often as the settings say otherwise."""
    here = desk(Machine(), poll_seconds=0.4)
    assert here.regulator.watch() == 0.4
    here.machine.inflate(30)
    here.machine.now += 0.1
    assert here.regulator.watch() == 0.1


def test_event_releases_a_step_where_figures_say_nothing() -> None:
    """Somebody waits for memory though there seems to be enough."""
    here = desk(Machine(), step_bytes=8 * MIB)
    receipt = here.regulator.hear(EVENT)
    assert here.machine.asked == [8]
    assert receipt is not None
    assert receipt.reason == "psi: tasks waited"


def test_event_releases_what_the_group_lacks() -> None:
    """A container at its limit has all the memory of the machine around it, and cannot have it."""
    here = desk(Machine(), group=lambda: 48 * MIB, step_bytes=8 * MIB)
    here.regulator.hear(EVENT)
    assert here.machine.asked == [48]


def test_event_keeps_others_out_for_a_while() -> None:
    """The refusal has the figures and the source; a few seconds later it is over."""
    here = desk(Machine())
    here.regulator.hear(EVENT)
    verdict = here.regulator.verdict(request())
    assert isinstance(verdict, Refused)
    assert "psi: tasks waited" in verdict.reason
    assert verdict.needs_bytes == 5 * MIB
    here.machine.now += 5
    assert here.regulator.verdict(request()) is None
    assert here.regulator.level == "nominal"


def test_nobody_comes_in_while_something_is_missing() -> None:
    """The refusal says what is available, what is to stay, and what the hypervisor wants; it is looked at anew."""
    here = desk(Machine())
    here.machine.wanted = 600 * MIB
    verdict = here.regulator.verdict(request())
    assert isinstance(verdict, Refused)
    assert verdict.reason == (
        "memory of the machine is short: 500.0 MiB are available, 64.0 MiB are to stay so; the balloon holds 0 B; "
        "the hypervisor wants 600.0 MiB more"
    )
    assert (verdict.needs_bytes, verdict.headroom_bytes) == (5 * MIB, 0)
    assert here.machine.asked == [], "a verdict releases nothing"
    here.machine.wanted = 0
    assert here.regulator.verdict(request()) is None


def test_load_that_can_wait_is_deferred() -> None:
    """Pressure passes."""
    here = desk(Machine(available=10))
    assert isinstance(here.regulator.verdict(request(defer=True)), Deferred)
    assert isinstance(here.regulator.verdict(request()), Refused)


@pytest.mark.parametrize(("available", "level"), [(64, "nominal"), (50, "elevated"), (10, "critical")])
def test_level_is_how_little_is_left(available: int, level: str) -> None:
    """Less than the reserve, and less than half of it."""
    here = desk(Machine(available=available))
    assert here.regulator.level == level


def test_release_in_vain_is_not_repeated_at_once() -> None:
    """After a second, then after twice as long each time; and at once when it helps again."""
    here = desk(Machine(available=10))
    here.machine.holds = 0
    moments = []
    for _ in range(200):
        if here.regulator.tick() is not None:
            moments.append(round(here.machine.now - 100))
        here.machine.now += 0.5
    assert moments == [0, 1, 3, 7, 15, 31, 61, 91]
    here.machine.now += 30
    here.machine.holds = 30 * MIB
    assert here.regulator.tick() is not None
    here.machine.holds = 1000 * MIB
    assert here.regulator.tick() is not None
    assert here.machine.available == 64 * MIB


def test_belief_that_is_not_true_is_in_vain() -> None:
    """Whoever believes in a release that nobody can see is not asked five times a second."""
    machine = Machine(available=10)
    handlers = Handlers(logging.getLogger("balloon.test"))
    lease = handlers.register(lambda nbytes: nbytes)
    regulator = Regulator(
        PressureSettings(reserve_bytes=64 * MIB),
        machine.figures,
        Releaser(handlers, machine.standing),
        clock=lambda: machine.now,
    )
    assert regulator.tick() is not None
    machine.now += 0.2
    assert regulator.tick() is None
    assert lease.handler is not None


def test_unknown_figures_release_nothing_and_refuse_nobody() -> None:
    """What cannot be known is no reason."""
    machine = Machine()
    here = desk(machine)
    object.__setattr__(here.regulator, "_look", Figures)
    object.__setattr__(here.regulator, "_look_closely", Figures)
    assert here.regulator.tick() is None
    assert here.regulator.verdict(request()) is None
    assert here.regulator.statistics().missing_bytes is None


def test_close_look_decides() -> None:
    """What processors keep at hand is not missing: the exact look is asked before anybody is."""
    machine = Machine(available=40)
    handlers = Handlers(logging.getLogger("balloon.test"))
    lease = handlers.register(machine.give)
    regulator = Regulator(
        PressureSettings(reserve_bytes=64 * MIB),
        machine.figures,
        Releaser(handlers, machine.standing),
        look_closely=lambda: attrs.evolve(machine.figures(), available_bytes=machine.available + 30 * MIB),
        clock=lambda: machine.now,
    )
    assert regulator.tick() is None
    machine.available = 20 * MIB
    regulator.tick()
    assert machine.asked == [14]
    assert lease.handler is not None


def test_statistics_have_the_last_of_everything() -> None:
    """Looks, events and releases are counted, and the last ones are there."""
    here = desk(Machine(available=10))
    here.regulator.tick()
    here.regulator.hear(EVENT)
    statistics = here.regulator.statistics()
    assert isinstance(statistics, PressureStatistics)
    assert (statistics.looks, statistics.events, statistics.releases) == (1, 1, 2)
    assert statistics.last_event == EVENT
    assert statistics.last_release == here.regulator.receipts[-1]
    assert statistics.reserve_bytes == 64 * MIB


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reserve_bytes", -1),
        ("reserve_bytes", "64 MiB"),
        ("step_bytes", 0),
        ("step_bytes", True),
        ("poll_seconds", -0.1),
        ("poll_seconds", float("nan")),
        ("horizon_seconds", float("inf")),
        ("notify", 1),
        ("ask_device", "yes"),
    ],
)
def test_setting_that_makes_no_sense_is_refused(name: str, value: object) -> None:
    """The text names it."""
    with pytest.raises(ConfigurationError, match=name):
        read_settings({name: value})


def test_settings_of_others_are_left_alone() -> None:
    """The plugin has settings that are not about pressure."""
    assert read_settings({"cpuid": False, "poll_seconds": 2}) == PressureSettings(poll_seconds=cast(float, 2))
