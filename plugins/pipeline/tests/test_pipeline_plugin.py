"""The plugin alone: these tests need the contract, and no host."""

from __future__ import annotations

import logging
import pickle
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import attrs
import pytest
from weighbridge_hookspecs import (
    Cancelled,
    ConfigurationError,
    ContextClosed,
    Event,
    PluginContext,
    ReleaseRequest,
    ServiceUnavailable,
    StageWithdrawn,
)

from weighbridge_pipeline import CancelToken, Job, Pipelines, PipelineSettings, Stage, build
from weighbridge_pipeline.capture import FOLDER
from weighbridge_pipeline.settings import read_settings

SOON = 30.0


class Gate(threading.Semaphore):
    """As much of a gate as is needed where nobody has to wait."""

    def enter(self, **options: Any) -> Gate:
        return self

    def release(self, n: int = 1) -> None:
        super().release(n)


class Cache:
    """A cache that is never full."""

    def __init__(self) -> None:
        self.content: dict[str, Any] | None = {}

    def get(self, key: str, default: Any = None) -> Any:
        if self.content is None:
            raise ContextClosed("the cache is closed")
        return self.content.get(key, default)

    def put(self, key: str, value: Any, *, nbytes: int) -> None:
        assert self.content is not None
        self.content[key] = value

    def release(self) -> None:
        self.content = None


class Store:
    """A store in memory."""

    def __init__(self, **content: bytes) -> None:
        self.content = content

    def keys(self, prefix: str = "") -> list[str]:
        return [key for key in self.content if key.startswith(prefix)]

    def delete(self, key: str) -> None:
        del self.content[key]


class Journal:
    """One in which nothing was written."""

    def replay(self, receive: object, *, after: int = 0) -> None:
        """Nothing."""

    def release(self) -> None:
        """Nothing."""


class Context:
    """As much of a ``PluginContext`` as the plugin uses."""

    def __init__(self, name: str = "pipeline", settings: Mapping[str, Any] | None = None, store: Any = None) -> None:
        self.name = name
        self.settings = settings or {}
        self.log = logging.getLogger("test.pipeline")
        self.lent = store
        self.caches: list[Cache] = []

    @property
    def store(self) -> Any:
        if self.lent is None:
            raise ServiceUnavailable("there is no store")
        return self.lent

    def gate(self, limit: int, **options: Any) -> Any:
        return Gate(limit)

    def cache(self, max_items: int, max_bytes: int, **options: Any) -> Cache:
        self.caches.append(Cache())
        return self.caches[-1]

    def journal(self, name: str, **options: Any) -> Journal:
        return Journal()

    def track(self, obj: Any) -> Any:
        return obj


def plugin(context: Context) -> Pipelines:
    return Pipelines(cast(PluginContext, context))


def state(name: str, state: str) -> Event:
    return Event(kind="state", plugin=name, state=state)


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"max_depth": 0}, "max_depth is 0. Give a whole number of stages from 1 to 1,000,000"),
        ({"max_transactions": "4"}, "max_transactions is '4'. Give a whole number of transactions"),
        ({"max_waiting": -1}, "max_waiting is -1. Give a whole number of transactions from 0 to 1,000,000"),
        ({"wait_seconds": 0}, "wait_seconds is 0. Give a number of seconds above 0 and up to 315,360,000"),
        ({"deadline_seconds": float("inf")}, "deadline_seconds is inf. Give a number of seconds"),
        ({"undo_deadline_seconds": None}, "undo_deadline_seconds is None. Give a number of seconds"),
        ({"rollback_seconds": True}, "rollback_seconds is True. Give a number of seconds"),
        ({"drain_seconds": float("nan")}, "drain_seconds is nan. Give a number of seconds"),
        ({"capture_bytes": 1.5}, "capture_bytes is 1.5. Give a whole number of bytes from 0"),
        ({"workers": 1001}, "workers is 1001. Give a whole number of threads from 1 to 1,000"),
    ],
)
def test_a_setting_of_no_sense_is_refused(settings: dict[str, Any], text: str) -> None:
    """The error names the setting, its value, and what is allowed."""
    with pytest.raises(ConfigurationError) as caught:
        read_settings(settings)
    assert str(caught.value).startswith(text)


def test_every_setting_is_checked() -> None:
    """A list is never what a setting wants."""
    for field in attrs.fields(PipelineSettings):
        with pytest.raises(ConfigurationError, match=rf"^{field.name} is \[\]"):
            read_settings({field.name: []})


def test_an_unknown_setting_is_refused_and_the_nearest_named() -> None:
    """A slip of the pen is not taken for a setting that is left out."""
    with pytest.raises(ConfigurationError, match=r"has 'max_deph', which is no setting.*did you mean \"max_depth\""):
        plugin(Context(settings={"max_deph": 3}))


def test_settings_are_in_force() -> None:
    """The plugin builds and admits by them."""
    pipelines = plugin(Context(settings={"max_depth": 1, "max_transactions": 3, "max_waiting": 7})).scaling
    assert (pipelines.limits.max_concurrent_operations, pipelines.limits.max_waiting) == (3, 7)
    assert pipelines.limits.wait_seconds == 30
    builder = pipelines.pipeline("p")
    builder.stage()(print)
    builder.stage(name="b", needs="print")(print)
    with pytest.raises(Exception, match="1 is the most: print -> b"):
        builder.build()
    pipelines.max_depth = 2
    assert builder.build().depth == 2
    with pytest.raises(ConfigurationError, match="max_depth is 0"):
        pipelines.max_depth = 0
    assert pipelines.max_depth == 2


# -- hooks -------------------------------------------------------------------------------------------------------------


def test_the_capability_is_the_scaling() -> None:
    """Others get what also scales, with the limit as evidence."""
    entries: list[tuple[Any, ...]] = []

    class Registry:
        def register(self, name: str, provided: object, *, evidence: str, details: Mapping[str, str]) -> None:
            entries.append((name, provided, evidence, details))

    made = plugin(Context(settings={"max_transactions": 3}))
    made.weighbridge_capabilities(cast(Any, Registry()))
    assert entries == [("pipeline", made.scaling, "3 transactions at a time", {"max_depth": "50"})]
    assert made.weighbridge_scalable() is made.scaling


@pytest.mark.parametrize("left", [0, 2])
def test_the_activation_sweeps_what_a_crash_left(left: int, caplog: pytest.LogCaptureFixture) -> None:
    """Captured states of transactions that nobody undoes any more go, and it is said if there were some."""
    store = Store(mine=b"x", **{f"{FOLDER}/dead/{number}": b"x" for number in range(left)})
    with caplog.at_level("INFO", "test.pipeline"):
        plugin(Context(store=store)).weighbridge_activate()
    assert list(store.content) == ["mine"]
    assert caplog.messages == (["forgot 2 captured states that a crash had left"] if left else [])


def test_without_a_store_it_activates() -> None:
    """Small states need none."""
    plugin(Context()).weighbridge_activate()


def test_without_captured_state_there_is_nothing_to_give_back() -> None:
    """Asked for memory it says so, and does not ask for a store."""
    made = plugin(Context())
    assert made.weighbridge_report_memory() == 0
    assert made.weighbridge_release_memory(ReleaseRequest(bytes=1)) is None


def test_after_its_deactivation_nothing_begins() -> None:
    """Who comes too late is told."""
    made = plugin(Context())
    made.weighbridge_deactivate("test")
    assert not made.scaling.backpressure().accepting
    with pytest.raises(ContextClosed):
        made.scaling.run(build("p", [Stage(name="a", run=print)]))


# -- contributions -----------------------------------------------------------------------------------------------------


def double(job: Job) -> int:
    return 2 * int(job.inputs)


def contributed() -> tuple[Pipelines, Context, Stage]:
    made, context = plugin(Context()), Context("vendor")
    contribution = made.scaling.contribute(cast(PluginContext, context), Stage(name="double", run=double))
    assert contribution.stages["double"] == made.scaling.stage("vendor", "double")
    return made, context, made.scaling.stage("vendor", "double")


def test_a_contributed_stage_runs_and_pickles_as_its_function() -> None:
    """A process elsewhere gets the function itself, not what stands for it."""
    made, _, stage = contributed()
    assert made.scaling.run(build("p", [stage]), 4)["double"] == 8
    assert pickle.loads(pickle.dumps(stage.run)) is double
    made.weighbridge_deactivate("test")


def test_when_the_host_takes_the_lease_back_the_stage_is_withdrawn() -> None:
    """Even if nobody told of the unload: nothing of the contributor is left to call."""
    made, context, stage = contributed()
    pipeline = build("p", [stage])
    context.caches[0].release()
    with pytest.raises(ExceptionGroup) as caught:
        made.scaling.run(pipeline, 4)
    assert isinstance(caught.value.exceptions[0].__cause__, StageWithdrawn)
    made.weighbridge_deactivate("test")


@pytest.mark.parametrize(("last", "runs"), [("active", True), ("unloaded", False), ("stranded", False)])
def test_a_leaving_plugins_stages_do_not_begin(last: str, runs: bool) -> None:
    """From the moment it drains; if it stays after all, they do again."""
    made, context, stage = contributed()
    pipeline = build("p", [stage])
    made.weighbridge_event(state("other", "draining"))
    assert made.scaling.run(pipeline, 1)["double"] == 2
    made.weighbridge_event(state("vendor", "draining"))
    with pytest.raises(StageWithdrawn, match="vendor: its stages are no longer there: double"):
        made.scaling.run(pipeline, 1)
    made.weighbridge_event(state("vendor", last))
    if runs:
        assert made.scaling.run(pipeline, 1)["double"] == 2
    else:
        with pytest.raises(StageWithdrawn):
            made.scaling.run(pipeline, 1)
        assert context.caches[0].content is None
    made.weighbridge_deactivate("test")


def test_contributing_twice_is_refused_and_after_a_release_it_is_not() -> None:
    """One plugin has one contribution at a time."""
    made, context, _ = contributed()
    again = cast(PluginContext, context)
    with pytest.raises(ConfigurationError, match="vendor: it has contributed stages before"):
        made.scaling.contribute(again, Stage(name="double", run=double))
    context.caches[0].release()
    made.scaling.contribute(again, Stage(name="double", run=double))
    with pytest.raises(ConfigurationError, match="two contributed stages have one name"):
        made.scaling.contribute(again, *[Stage(name="a", run=double)] * 2)
    with pytest.raises(ConfigurationError, match="on_unload is 'never'"):
        made.scaling.contribute(again, on_unload=cast(Any, "never"))
    made.weighbridge_deactivate("test")


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_a_token_tells_everybody_once() -> None:
    """Those who listen, those who wait, and those who look; who comes late is told at once."""
    token, told = CancelToken(), []
    listeners: list[Callable[[], object]] = [lambda number=number: told.append(number) for number in range(3)]  # type: ignore[misc]
    token.on_set(listeners[0])
    token.on_set(listeners[1])
    token.forget(listeners[1])
    assert not token.is_set()
    assert not token.wait(0)
    token.raise_if_set()
    token.set()
    token.set()
    assert token.is_set()
    assert token.wait(SOON)
    token.on_set(listeners[2])
    assert told == [0, 2]
    with pytest.raises(Cancelled):
        token.raise_if_set()


def test_a_token_ends_with_its_time_and_with_its_parent() -> None:
    """The nearer of two deadlines counts; what sets the parent wakes those who wait for the child."""
    assert CancelToken().remaining_seconds is None
    over = CancelToken(time.monotonic())
    assert over.is_set()
    assert over.remaining_seconds == 0
    parent = CancelToken(time.monotonic() + SOON)
    child = CancelToken(time.monotonic() + 2 * SOON, parent=parent)
    assert child.remaining_seconds is not None
    assert child.remaining_seconds <= SOON
    assert CancelToken(time.monotonic(), parent=parent).is_set()
    assert not child.is_set()
    parent.set()
    assert child.wait()


def test_a_token_elsewhere_has_what_time_is_left() -> None:
    """Clocks of processes differ, so that the seconds go over and not the moment."""
    copy = pickle.loads(pickle.dumps(CancelToken(time.monotonic() + SOON)))
    assert not copy.is_set()
    assert 0 < copy.remaining_seconds <= SOON
    set_already = CancelToken()
    set_already.set()
    assert pickle.loads(pickle.dumps(set_already)).is_set()
