"""Making room: in order, no more than is needed, and on the record with what it really freed."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable

import attrs
import pytest
from weighbridge_hookspecs import Event, ReleaseRequest, hookimpl

from weighbridge.hooks import Hooks
from weighbridge.pressure.relief import KEPT_REACTIONS, ORDER, Effort, Occasion, Relief


@attrs.define
class Scene:
    """A process of so many bytes, plugins that hold some of them, and what happened."""

    usage: int = 1000
    target: int = 600
    idle: int = 0
    held: dict[str, int] = attrs.field(factory=dict)
    hooks: Hooks = attrs.field(factory=Hooks)
    asked: list[tuple[str, int, str]] = attrs.field(factory=list)
    events: list[Event] = attrs.field(factory=list)
    relief: Relief = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.relief = Relief(self.hooks, lambda: self.usage, lambda: self.held)
        self.relief.give_back = self.give_back
        self.hooks.register("observer", Observer(self.events))

    def give_back(self, nbytes: int) -> int:
        went = min(self.idle, nbytes)
        self.idle -= went
        self.usage -= went
        return went

    def missing(self) -> int:
        return max(0, self.usage - self.target)

    def plugin(self, name: str, held: int, frees: int, says: object = None) -> None:
        self.held[name] = held

        def release(request: ReleaseRequest) -> object:
            self.asked.append((name, request.bytes, request.level))
            self.usage -= frees
            return frees if says is None else says

        self.hooks.register(name, Giver(release))


class Observer:
    """Keeps events."""

    def __init__(self, events: list[Event]) -> None:
        self.events = events

    @hookimpl
    def weighbridge_event(self, event: Event) -> None:
        self.events.append(event)


class Giver:
    """A plugin that gives memory back."""

    def __init__(self, release: Callable[[ReleaseRequest], object]) -> None:
        self.release = release

    @hookimpl
    def weighbridge_release_memory(self, request: ReleaseRequest) -> object:
        return self.release(request)


class Mute:
    """A plugin without the hook."""


def deeds(efforts: tuple[Effort, ...]) -> list[str]:
    return [effort.plugin or effort.means for effort in efforts]


@pytest.mark.parametrize(
    ("occasion", "expected"),
    [
        ("pressure", ["young", "buffers", "large", "small", "all"]),
        ("load", ["young", "buffers", "all", "large", "small"]),
        ("buffer", ["large", "small"]),
        ("request", ["young", "buffers", "large", "small", "all"]),
    ],
)
def test_everything_is_tried_in_order_if_nothing_helps(occasion: Occasion, expected: list[str]) -> None:
    """Younger generations first; under pressure the full collection, which stops everybody, comes last."""
    scene = Scene()
    scene.plugin("small", 10, 0)
    scene.plugin("large", 90, 0)
    scene.held["mute"] = 500
    scene.hooks.register("mute", Mute())
    reaction = scene.relief.make_room(occasion, scene.missing, level="critical")
    assert reaction is not None
    assert deeds(reaction.efforts) == expected
    assert (reaction.wanted_bytes, reaction.missing_bytes) == (400, 400)
    assert scene.asked == [("large", 400, "critical"), ("small", 400, "critical")]


def test_nobody_is_asked_for_more_than_is_missing() -> None:
    """The biggest is asked first, the next one for the rest, and whoever is behind them keeps what it has."""
    scene = Scene(idle=50)
    for name, held in (("small", 10), ("middle", 50), ("large", 90)):
        scene.plugin(name, held, 200)
    reaction = scene.relief.make_room("pressure", scene.missing)
    assert reaction is not None
    assert scene.asked == [("large", 350, "elevated"), ("middle", 150, "elevated")]
    assert reaction.believed_bytes == {"large": 200, "middle": 200}
    assert (reaction.missing_bytes, reaction.freed_bytes) == (0, 450)
    assert deeds(reaction.efforts) == ["young", "buffers", "large", "middle"]


def test_one_that_gives_little_by_little_is_asked_again() -> None:
    """As long as that gets on: what a plugin frees may come back to the system only in part."""
    scene = Scene()
    scene.plugin("slow", 90, 180)
    scene.plugin("empty", 10, 0)
    reaction = scene.relief.make_room("buffer", scene.missing)
    assert reaction is not None
    assert [(name, nbytes) for name, nbytes, _ in scene.asked] == [
        ("slow", 400),
        ("empty", 220),
        ("slow", 220),
        ("empty", 40),
        ("slow", 40),
    ]
    assert reaction.missing_bytes == 0
    assert reaction.believed_bytes == {"slow": 540, "empty": 0}


def test_nothing_is_done_where_nothing_is_missing() -> None:
    """And nothing is written down."""
    scene = Scene(usage=600)
    assert scene.relief.make_room("pressure", scene.missing) is None
    assert (scene.relief.reactions, scene.relief.last, scene.events) == ((), None, [])


def test_nothing_that_could_be_done_is_nothing_to_tell() -> None:
    """A buffer that does not fit, and nobody else who could be asked: its own error says so."""
    scene = Scene()
    scene.plugin("large", 90, 100)
    assert scene.relief.make_room("buffer", scene.missing, owner="large") is None
    assert (scene.relief.reactions, scene.events) == ((), [])


def test_what_a_plugin_believes_stands_beside_what_was_measured() -> None:
    """A boaster's figure is its own; the resident set before and after says the truth."""
    scene = Scene()
    scene.plugin("boaster", 10, 3, says=1 << 40)
    scene.plugin("liar", 9, 5, says="much")
    reaction = scene.relief.make_room("buffer", scene.missing)
    assert reaction is not None
    facts = [
        (one.plugin, one.believed_bytes, one.resident_before_bytes, one.resident_after_bytes)
        for one in reaction.efforts
    ]
    assert facts == [("boaster", 1 << 40, 1000, 997), ("liar", 0, 997, 992)]


def test_younger_generations_are_collected_and_that_may_be_enough() -> None:
    """A young ring of references goes without anybody being asked, and without a full collection."""
    scene = Scene()
    scene.plugin("large", 90, 500)

    class Ring:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            scene.usage = 600

    gc.collect()
    before = gc.get_stats()[2]["collections"]
    Ring()
    reaction = scene.relief.make_room("pressure", scene.missing)
    assert reaction is not None
    assert deeds(reaction.efforts) == ["young"]
    assert scene.asked == []
    assert gc.get_stats()[2]["collections"] == before


def test_the_one_for_whom_it_is_done_is_not_asked() -> None:
    """It may hold a lock that its own hook would wait for."""
    scene = Scene()
    scene.plugin("large", 90, 400)
    scene.plugin("small", 10, 400)
    scene.relief.make_room("buffer", scene.missing, owner="large")
    assert [name for name, *_ in scene.asked] == ["small"]


def test_a_plugin_that_asks_gets_what_was_measured() -> None:
    """Everybody else is asked until the process is so much smaller; a second request meanwhile gets nothing."""
    scene = Scene(usage=1000)
    scene.plugin("gauge", 500, 500)
    scene.plugin("large", 90, 150, says=7)
    scene.plugin("small", 10, 100)
    scene.plugin("tiny", 1, 100)
    assert scene.relief.relieve(200, "critical", "gauge") == 250
    assert scene.asked == [("large", 200, "critical"), ("small", 50, "critical")]
    assert scene.relief.relieve(0, "elevated", "gauge") == 0
    assert [reaction.occasion for reaction in scene.relief.reactions] == ["request"]


def test_a_plugin_that_needs_room_while_it_is_asked_gets_none() -> None:
    """Or two of them would ask each other for ever."""
    scene = Scene()
    inner: list[object] = []

    def release(request: ReleaseRequest) -> int:
        inner.append(scene.relief.make_room("buffer", scene.missing, owner="large"))
        inner.append(scene.relief.make_room("load", scene.missing))
        return 0

    scene.held["large"] = 90
    scene.hooks.register("large", Giver(release))
    scene.relief.make_room("pressure", scene.missing)
    assert inner == [None, None]
    assert len(scene.relief.reactions) == 1


def test_one_that_raises_does_not_end_the_search() -> None:
    """It released nothing, as far as anybody knows, and the next attempt can begin."""
    scene = Scene()

    def fail(request: ReleaseRequest) -> int:
        raise OSError("stuck")

    scene.held["large"] = 90
    scene.hooks.register("large", Giver(fail))
    scene.plugin("small", 10, 400)
    reaction = scene.relief.make_room("pressure", scene.missing)
    assert reaction is not None
    assert reaction.believed_bytes == {"large": 0, "small": 400}
    assert scene.relief.make_room("pressure", scene.missing) is None


def test_the_last_reactions_are_kept_and_no_more() -> None:
    """Of a process that lives on for ever."""
    scene = Scene()
    for _ in range(KEPT_REACTIONS + 5):
        assert scene.relief.make_room("pressure", scene.missing) is not None
    assert len(scene.relief.reactions) == KEPT_REACTIONS
    assert scene.relief.last is scene.relief.reactions[-1]


def test_observers_hear_what_came_of_it() -> None:
    """In bytes that were measured, after everything was done."""
    scene = Scene()
    scene.plugin("large", 90, 500, says=7)
    scene.relief.make_room("pressure", scene.missing)
    assert scene.events == [
        Event(kind="release", level="elevated", bytes=500, reason="400 B were needed to relieve the process")
    ]


def test_every_occasion_has_an_order_without_repetitions() -> None:
    """Each means at most once."""
    assert all(len(set(order)) == len(order) > 0 for order in ORDER.values())


def test_two_at_once_take_turns_and_a_load_waits_for_its_own() -> None:
    """Under pressure the second one leaves it to the first; a load waits, and finds what the first has freed."""
    scene = Scene()
    inside, go_on = threading.Event(), threading.Event()

    def release(request: ReleaseRequest) -> int:
        inside.set()
        go_on.wait()
        scene.usage = 600
        return 400

    scene.held["large"] = 90
    scene.hooks.register("large", Giver(release))
    first = threading.Thread(target=scene.relief.make_room, args=("pressure", scene.missing))
    first.start()
    inside.wait()
    assert scene.relief.make_room("pressure", scene.missing) is None
    threading.Timer(0.05, go_on.set).start()
    assert scene.relief.make_room("load", scene.missing) is None
    first.join()
    assert (scene.usage, len(scene.relief.reactions)) == (600, 1)
