"""The lantern alone: these tests need the contract, and no host."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest
from weighbridge_hookspecs import PluginContext, ReleaseRequest

if TYPE_CHECKING:
    from weighbridge_lantern import Lantern

T = TypeVar("T")


class Context:
    """As much of a ``PluginContext`` as the lantern uses; it writes down what was leased."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self.log = logging.getLogger("lantern.test")
        self.tracked: list[object] = []
        self.timers: list[tuple[float, Callable[[], object]]] = []

    def track(self, obj: T) -> T:
        self.tracked.append(obj)
        return obj

    def every(self, seconds: float, call: Callable[[], object], *, name: str) -> None:
        self.timers.append((seconds, call))


class Registry:
    """As much of ``Capabilities`` as the lantern uses."""

    def __init__(self) -> None:
        self.provided: dict[str, object] = {}
        self.evidence: list[str] = []

    def register(self, name: str, provided: object, *, evidence: str) -> None:
        self.provided[name] = provided
        self.evidence.append(evidence)


def light(context: Context) -> Lantern:
    # here and not above: what a test file has imported, a host in the same process would not load again
    from weighbridge_lantern import Lantern

    return Lantern(cast(PluginContext, context))


def test_it_has_a_reading_as_soon_as_it_is_there() -> None:
    """Whoever asks for the load of the machine need not wait for the first tick."""
    lantern = light(Context({}))
    (reading,) = lantern.history.readings()
    assert reading.seconds > 0
    assert reading.load is None or reading.load >= 0


def test_every_tick_of_the_timer_adds_a_reading() -> None:
    """As often as the settings say, and once a second without settings."""
    context = Context({"seconds": 0.25})
    lantern = light(context)
    ((seconds, tick),) = context.timers
    tick()
    assert (seconds, len(lantern.history)) == (0.25, 2)
    unconfigured = Context({})
    light(unconfigured)
    assert unconfigured.timers[0][0] == 1.0


def test_it_keeps_the_latest_readings_only() -> None:
    """As many as the settings say, oldest first."""
    lantern = light(Context({"keep": 3}))
    for _ in range(5):
        lantern.history.look()
    seconds = [reading.seconds for reading in lantern.history.readings()]
    assert len(seconds) == 3
    assert seconds == sorted(seconds)


def test_keeping_nothing_makes_no_sense() -> None:
    """The error names the setting."""
    with pytest.raises(ValueError, match="keep = 0"):
        light(Context({"keep": 0}))


def test_old_readings_go_when_memory_is_short() -> None:
    """All but the latest; and what it says it released grows with what it had."""
    lantern = light(Context({}))
    assert lantern.weighbridge_release_memory(ReleaseRequest(bytes=1)) == 0
    for _ in range(10):
        lantern.history.look()
    latest = lantern.history.readings()[-1]
    ten = lantern.weighbridge_release_memory(ReleaseRequest(bytes=1))
    assert lantern.history.readings() == (latest,)
    lantern.history.look()
    assert ten == 10 * lantern.weighbridge_release_memory(ReleaseRequest(bytes=1)) > 0


def test_it_offers_its_history_to_others() -> None:
    """Under the name that its manifest promises, with evidence."""
    lantern, registry = light(Context({})), Registry()
    lantern.weighbridge_capabilities(registry)  # type: ignore[arg-type]  # it needs no more of a registry
    assert registry.provided == {"machine-load": lantern.history}
    assert registry.evidence


def test_its_host_can_see_whether_the_history_outlives_it() -> None:
    """The one big thing that it holds is tracked."""
    context = Context({})
    lantern = light(context)
    assert context.tracked == [lantern.history]


def test_it_says_goodbye(caplog: pytest.LogCaptureFixture) -> None:
    """With the reason why it has to go."""
    lantern = light(Context({}))
    with caplog.at_level(logging.INFO):
        lantern.weighbridge_deactivate("the host is closing")
    assert caplog.messages == ["going out after 1 readings: the host is closing"]
