"""The records: frozen, keyword-only, and honest about what is not known."""

from __future__ import annotations

import pickle
from typing import Any, Final

import attrs
import pytest
import weighbridge_hookspecs
from hypothesis import given
from hypothesis import strategies as st
from weighbridge_hookspecs import (
    AdmissionRequest,
    Admitted,
    Backpressure,
    BudgetView,
    Candidate,
    Capability,
    Deferred,
    Event,
    Fact,
    GateStatistics,
    Manifest,
    Refused,
    ReleaseRequest,
    ScalingLimits,
    ScalingMetrics,
    records,
)

RECORDS: Final[list[type[Any]]] = [
    cls for cls in vars(records).values() if isinstance(cls, type) and cls.__module__ == records.__name__
]
LAMP: Final = Candidate(name="lamp", group="weighbridge", value="lamp:Lamp", distribution="lamp", version="1.0")
EXAMPLES: Final[list[Any]] = [
    Manifest(summary="Light", requires=("socket",), load_bytes=1024),
    LAMP,
    AdmissionRequest(candidate=LAMP, estimate_bytes=10, estimate_source="default"),
    Admitted(warnings=("it is big",)),
    Deferred(reason="no room"),
    Refused(reason="no room", needs_bytes=5, headroom_bytes=2),
    ReleaseRequest(bytes=4096),
    Event(kind="state", plugin="lamp", state="loaded", previous="admitted"),
    BudgetView(load_bytes=None, peak_bytes=None, held_bytes=0, headroom_bytes=None),
    Capability(name="light", owner="lamp", evidence="it shines", details={"colour": "white"}),
    Fact(subject="light", finding=None, evidence="/sys/class/leds is not there"),
    GateStatistics(
        limit=4,
        reserved=0,
        max_waiting=9,
        inside=1,
        waiting=0,
        entered=3,
        left=2,
        rejected=0,
        timed_out=0,
        interrupted=0,
        sent_away=0,
        preempted=0,
        failures=0,
        service_seconds=0.5,
    ),
    ScalingLimits(max_concurrent_operations=4),
    ScalingMetrics(running=1, waiting=0, completed=7, rejected=0),
    Backpressure(accepting=True),
]


def fields_of(record: Any) -> dict[str, Any]:
    """Every field of a record, nested records left as they are."""
    return {field.name: getattr(record, field.name) for field in attrs.fields(type(record))}


def test_every_record_has_an_example_here() -> None:
    """The examples leave no record out, so what is tested of them holds for all."""
    assert [type(example) for example in EXAMPLES] == RECORDS


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_a_record_cannot_be_changed(example: Any) -> None:
    """A hook that assigns to a field, or adds one, gets an error: it returns a changed copy instead."""
    before = fields_of(example)
    for name in before:
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(example, name, "changed")
    with pytest.raises((attrs.exceptions.FrozenInstanceError, AttributeError)):
        example.something_new = 1
    assert fields_of(example) == before


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_a_record_is_made_by_names_only(example: Any) -> None:
    """Positional arguments are refused, so that a field can be added in any place."""
    assert all(field.kw_only for field in attrs.fields(type(example)))
    with pytest.raises(TypeError, match="positional argument"):
        type(example)("anything")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_a_record_survives_pickling_and_evolving(example: Any) -> None:
    """A record can be sent to another process, and ``attrs.evolve`` without changes gives an equal one."""
    assert pickle.loads(pickle.dumps(example)) == example
    assert attrs.evolve(example) == example


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_a_record_is_part_of_the_contract_and_documented(example: Any) -> None:
    """A record can be imported from the package itself and has a docstring of its own."""
    cls = type(example)
    assert getattr(weighbridge_hookspecs, cls.__name__) is cls
    assert cls.__name__ in weighbridge_hookspecs.__all__
    assert vars(cls)["__doc__"]


def test_nothing_is_presumed_of_a_manifest_that_says_nothing() -> None:
    """An empty manifest knows no sizes (None, not 0), is eager and can be unloaded."""
    assert fields_of(Manifest()) == {
        "summary": "",
        "api": 1,
        "requires": (),
        "provides": (),
        "after": (),
        "conflicts": (),
        "hooks": (),
        "activation": "eager",
        "unload": "clean",
        "load_bytes": None,
        "peak_bytes": None,
    }


@given(estimate=st.integers(0, 1 << 50), peak=st.none() | st.integers(0, 1 << 50))
def test_a_request_needs_the_more_of_estimate_and_peak(estimate: int, peak: int | None) -> None:
    """What must fit under the ceiling is never below the estimate nor below the promised peak, and is one of them."""
    request = AdmissionRequest(candidate=LAMP, estimate_bytes=estimate, estimate_source="weighed", peak_bytes=peak)
    assert request.needs_bytes >= estimate
    assert request.needs_bytes >= (peak or 0)
    assert request.needs_bytes in (estimate, peak)


def test_a_request_without_a_ceiling_knows_no_headroom() -> None:
    """Usage, ceiling and headroom are unknown until a budget says them, and nothing is deferred unless asked."""
    request = AdmissionRequest(candidate=LAMP, estimate_bytes=10, estimate_source="default")
    assert (request.usage_bytes, request.ceiling_bytes, request.headroom_bytes) == (None, None, None)
    assert (request.priority, request.defer, request.dry_run) == (0, False, False)
