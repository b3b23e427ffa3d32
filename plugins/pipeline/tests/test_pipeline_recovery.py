"""Recovery: from wherever a process was killed, every durable transaction comes to an end that is allowed.

The journal, the store and the world in which stages do things are doubles with one lock, so that a crash can be
anywhere: a snapshot of all three is what a process leaves that is killed at that moment.
"""

from __future__ import annotations

import pickle
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from weighbridge_hookspecs import (
    ConfigurationError,
    LeaseError,
    Saturated,
    ServiceUnavailable,
    StateRefused,
    StorageDamaged,
)

from weighbridge_pipeline import (
    CancelToken,
    Job,
    Pipeline,
    PipelineScaling,
    PipelineSettings,
    Stage,
    TransactionFailed,
    Transition,
    UndoJob,
    build,
)
from weighbridge_pipeline.capture import Spilled
from weighbridge_pipeline.history import fingerprint_of
from weighbridge_pipeline.records import Entry, entries_of, record_of

OnOpen = st.sampled_from(["rollback", "resume"])
Workers = st.sampled_from([1, 4])
Moment = st.floats(0, 1)
KIB = 1024


class Gate(threading.Semaphore):
    """As much of a gate as is needed where nobody has to wait."""

    def enter(self, **options: Any) -> Gate:
        return self

    def release(self, n: int = 1) -> None:
        super().release(n)


class World:
    """What outlives a process.

    :ivar ledger: what stages did, each with the key that it was done for.
    :ivar snapshots: the world as it was ahead of and behind each step, if `records_steps`.
    """

    def __init__(self, records_steps: bool = False) -> None:
        self.lock = threading.RLock()
        self.records: list[tuple[int, bytes]] = []
        self.mark = 0
        self.content: dict[str, bytes] = {}
        self.ledger: list[tuple[str, ...]] = []
        self.snapshots: list[World] = []
        self.fails: Callable[[bytes], bool] = lambda payload: False
        self.damage: str | None = None
        self.is_open = False
        self._records_steps = records_steps

    def copy(self, records_steps: bool = False) -> World:
        """The same world for another process."""
        with self.lock:
            other = World(records_steps)
            other.records, other.mark = list(self.records), self.mark
            other.content, other.ledger = dict(self.content), list(self.ledger)
        return other

    @contextmanager
    def step(self) -> Iterator[None]:
        """Something that has happened or not when a process dies, and never half."""
        with self.lock:
            if self._records_steps:
                self.snapshots.append(self.copy())
            yield
            if self._records_steps:
                self.snapshots.append(self.copy())

    def act(self, verb: str, key: str, *more: Any) -> None:
        """Do something, once for each key."""
        stage = key.partition("/")[2]
        with self.lock:
            self.ledger.append(("call", verb, stage))
        with self.step():
            if not any(line[:2] == (verb, stage) for line in self.ledger):
                self.ledger.append((verb, stage, *more))

    def acts(self, verb: str) -> list[str]:
        """The stages of which this was done, in order."""
        return [line[1] for line in self.ledger if line[0] == verb]

    def calls(self, verb: str) -> list[str]:
        """The stages of which this was called, in order."""
        return [line[2] for line in self.ledger if line[:2] == ("call", verb)]

    # -- a store -------------------------------------------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        return self.content.get(key)

    def put(self, key: str, value: bytes) -> None:
        with self.step():
            self.content[key] = value

    def delete(self, key: str) -> None:
        with self.step():
            self.content.pop(key, None)

    def keys(self, prefix: str = "") -> Iterator[str]:
        return iter(sorted(key for key in self.content if key.startswith(prefix)))

    # -- a journal -----------------------------------------------------------------------------------------------------

    def append(self, payload: bytes, *, timeout_seconds: float | None = None) -> int:
        if self.fails(payload):
            raise LeaseError("a record was not written: the disk is full")
        with self.step():
            sequence = (self.records[-1][0] if self.records else self.mark) + 1
            self.records.append((sequence, payload))
            return sequence

    def replay(self, receive: Callable[[int, bytes], object], *, after: int = 0) -> object:
        for sequence, payload in list(self.records):
            receive(sequence, payload)
        return self

    @property
    def reason(self) -> str | None:
        return self.damage

    def truncate(self, up_to: int) -> int:
        with self.step():
            self.mark = max(self.mark, up_to)
            self.records = [record for record in self.records if record[0] > up_to]
        return 0

    def release(self) -> None:
        self.is_open = False


class Surroundings:
    """A context that lends a gate, and the journal and the store of a world."""

    def __init__(self, world: World | None) -> None:
        self.world = world

    @property
    def store(self) -> World:
        return self._lent()

    def gate(self, limit: int, *, max_waiting: int | None = None, reserve: float = 0.0) -> Any:
        return Gate(limit)

    def journal(self, name: str = "journal", **options: Any) -> World:
        world = self._lent()
        if world.is_open:
            raise LeaseError("another process has it")
        world.is_open = True
        return world

    def _lent(self) -> World:
        if self.world is None:
            raise ServiceUnavailable("there is no store")
        return self.world


@contextmanager
def process(world: World | None, **settings: Any) -> Iterator[PipelineScaling]:
    """The pipelines of one process, which ends well."""
    scaling = PipelineScaling(PipelineSettings(**settings), Surroundings(world))
    try:
        yield scaling
    finally:
        scaling.close()


def states(scaling: PipelineScaling) -> dict[str, Mapping[str, str]]:
    """What had become of the stages of each open transaction."""
    return {one.transaction: one.stages for one in scaling.open_transactions()}


@attrs.frozen
class Shape:
    """A random graph: what each stage needs, which have an undo, and which fail, or fail to be undone."""

    needs: tuple[tuple[int, ...], ...]
    undoable: tuple[bool, ...]
    failing: frozenset[int]
    stuck: frozenset[int]


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    count = draw(st.integers(1, 6))
    needs = tuple(tuple(draw(st.sets(st.integers(0, n - 1), max_size=2))) if n else () for n in range(count))
    undoable = tuple(draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    few = st.frozensets(st.integers(0, count - 1), max_size=1)
    return Shape(needs, undoable, draw(few), draw(few))


def pipeline_of(shape: Shape, world: World) -> Pipeline:
    """Stages give texts that show what they were given; each keeps a copy for its undo."""

    def run(job: Job) -> str:
        made = f"{job.inputs}.{job.stage}({','.join(value for _, value in sorted(job.results.items()))})"
        if int(job.stage) in shape.failing:
            world.ledger.append(("call", "do", job.stage))
            raise ValueError(job.stage)
        world.act("do", job.key, made)
        return made

    def undo(job: UndoJob) -> None:
        if int(job.stage) in shape.stuck:
            world.ledger.append(("call", "undo", job.stage))
            raise OSError(job.stage)
        world.act("undo", job.key, job.captured)

    return build(
        "random",
        [
            Stage(name=str(n), run=run, undo=undo if shape.undoable[n] else None, needs=tuple(map(str, needs)))
            for n, needs in enumerate(shape.needs)
        ],
    )


def at(snapshots: list[World], moment: float) -> World:
    return snapshots[int(moment * (len(snapshots) - 1))]


def problems(shape: Shape, world: World) -> list[str]:
    """Why this end is not allowed."""
    names = [str(n) for n in range(len(shape.needs))]
    done, undone = Counter(world.acts("do")), world.acts("undo")
    found = [f"{name} twice" for name in names if done[name] > 1 or undone.count(name) > 1]
    can_be_undone = {name for name in done if shape.undoable[int(name)] and int(name) not in shape.stuck}
    if set(undone) not in (set(), can_be_undone):
        found.append(f"half undone: {dict(done)}, {undone}")
    if not undone and can_be_undone and set(done) != set(names):
        found.append(f"half done: {dict(done)}")
    made = {line[1]: line[2] for line in world.ledger if line[0] == "do"}
    found += [f"{line} with another state" for line in world.ledger if line[0] == "undo" and line[2] != made[line[1]]]
    for n, needs in enumerate(shape.needs):
        for need in needs:
            pair = str(n), str(need)
            if set(pair) <= set(undone) and undone.index(pair[0]) > undone.index(pair[1]):
                found.append(f"{need} was undone before {n}")
    return found


def run_recorded(shape: Shape, workers: int = 1) -> World:
    world = World(records_steps=True)
    with process(world, workers=workers) as scaling:
        try:
            scaling.run(pipeline_of(shape, world), "in", durable=True)
        except TransactionFailed:
            assert shape.failing
    return world


def recovered(shape: Shape, world: World, on_open: Any) -> World:
    """The same world after a recovery in a new process; its steps are recorded too."""
    world = world.copy(records_steps=True)
    with process(world) as scaling:
        scaling.sweep(keep=scaling.is_open)
        known = {name for come in states(scaling).values() for name, fate in come.items() if fate != "running"}
        before = len(world.calls("do"))
        recovery = scaling.recover([pipeline_of(shape, world)], on_open=on_open)
        assert recovery.refused == ()
        assert states(scaling) == {}
        assert not known.intersection(world.calls("do")[before:]), "a stage was begun whose end was known"
        assert world.content == {}
    return world


@settings(deadline=None, max_examples=100)
@given(shapes(), Workers, st.lists(st.tuples(Moment, OnOpen, Moment, OnOpen), min_size=4, max_size=4))
def test_from_any_step_recovery_comes_to_a_legal_end(
    shape: Shape, workers: int, kills: list[tuple[float, str, float, str]]
) -> None:
    """Killed anywhere in a run, and killed once more anywhere in the recovery."""
    first = run_recorded(shape, workers)
    assert problems(shape, first) == []
    for moment, on_open, later, then in kills:
        second = recovered(shape, at(first.snapshots, moment), on_open)
        assert problems(shape, second) == []
        if second.snapshots:
            assert problems(shape, recovered(shape, at(second.snapshots, later), then)) == []


@settings(deadline=None, max_examples=60)
@given(shapes(), Workers, Moment)
def test_resuming_ends_as_if_nothing_had_happened(shape: Shape, workers: int, moment: float) -> None:
    """Where no stage fails, all of them are done, with the results that they would have had, and none is undone."""
    shape = attrs.evolve(shape, failing=frozenset())
    first = run_recorded(shape, workers)
    second = recovered(shape, at([one for one in first.snapshots if one.records], moment), "resume")
    assert set(second.acts("do")) == {str(n) for n in range(len(shape.needs))}
    assert second.acts("undo") == []
    whole = {line for line in first.ledger if line[0] == "do"}
    assert {line for line in second.ledger if line[0] == "do"} == whole


CHAIN = Shape(((), (0,), (1,)), (True, True, True), frozenset(), frozenset())


def left_by(shape: Shape, *, calls: int) -> World:
    """A process that was killed when its stages had been called so often, behind the effect."""
    return next(one for one in run_recorded(shape).snapshots if len(one.acts("do")) == calls)


def test_a_stage_under_way_gets_the_same_key_again() -> None:
    """It had done its work, and nobody had heard: by its key it knows, and does it no second time."""
    world = left_by(CHAIN, calls=2)
    second = recovered(CHAIN, world, "resume")
    assert second.calls("do") == ["0", "1", "1", "2"]
    assert second.acts("do") == ["0", "1", "2"]


def test_the_results_of_a_resumed_transaction_are_those_of_a_whole_one() -> None:
    """What earlier stages gave comes out of the journal."""
    world = left_by(CHAIN, calls=2)
    with process(world) as scaling:
        (result,) = scaling.recover([pipeline_of(CHAIN, world)], on_open="resume").results
    assert result.outcome == "done"
    assert result["2"] == "in.2(in.1(in.0()))"
    assert {report.fate for report in result.stages.values()} == {"done"}


def test_what_is_recovered_with_rollback_says_so() -> None:
    """The report of every stage is that of a transaction that was called off."""
    world = left_by(CHAIN, calls=2)
    with process(world) as scaling:
        (result,) = scaling.recover([pipeline_of(CHAIN, world)]).results
    assert result.outcome == "rolled back"
    assert result.with_fate("undone") == ("0", "1")
    assert result.with_fate("not started") == ("2",)


def test_another_graph_is_refused_and_the_transaction_kept() -> None:
    """One more dependency is another graph; with the right one it can still be recovered."""
    world = left_by(CHAIN, calls=2)
    other = attrs.evolve(CHAIN, needs=((), (0,), (0, 1)))
    with process(world) as scaling:
        recovery = scaling.recover([pipeline_of(other, world)])
        assert recovery.results == ()
        (error,) = recovery.refused
        assert isinstance(error, StateRefused)
        assert "another graph of pipeline 'random'" in str(error)
        assert len(states(scaling)) == 1
    with process(world) as scaling:
        assert len(scaling.recover([pipeline_of(CHAIN, world)]).results) == 1
    assert world.acts("undo") == ["1", "0"]


def test_a_pipeline_that_was_not_given_keeps_its_transactions() -> None:
    """Nothing of them is begun or undone."""
    world = left_by(CHAIN, calls=2)
    with process(world) as scaling:
        (error,) = scaling.recover([]).refused
        assert "pipeline 'random', which was not given" in str(error)
        assert len(states(scaling)) == 1
    assert world.acts("undo") == []


def test_a_value_that_cannot_be_read_keeps_the_transaction() -> None:
    """A class is gone that the inputs are of."""
    world = World(records_steps=True)
    with process(world) as scaling:
        scaling.run(build("p", [Stage(name="a", run=lambda job: 1)]), Fleeting(), durable=True)
    crash = next(one for one in world.snapshots if one.records)
    with process(crash) as scaling, pytest.MonkeyPatch.context() as patch:
        patch.delitem(globals(), "Fleeting")
        recovery = scaling.recover([build("p", [Stage(name="a", run=lambda job: 1)])], on_open="resume")
        assert recovery.results == ()
        assert "the inputs cannot be read: AttributeError" in str(recovery.refused[0])
        assert len(states(scaling)) == 1


class Fleeting:
    """A class that a later release may not have."""


def test_a_stage_under_way_is_settled_though_another_one_fails() -> None:
    """It may have had its effect: it is run again first, and undone when the other one has failed."""
    shape = Shape(((), ()), (True, False), frozenset({1}), frozenset())
    crash = next(one for one in run_recorded(shape).snapshots if one.acts("do"))
    for on_open in ("resume", "rollback"):
        assert recovered(shape, crash, on_open).acts("undo") == ["0"]


def test_a_stage_that_fails_when_it_is_given_its_key_again_has_failed() -> None:
    """As in any run: it says by raising that nothing of it is left, and the others are undone."""
    world = left_by(CHAIN, calls=2)
    shape = attrs.evolve(CHAIN, failing=frozenset({1}))
    with process(world) as scaling:
        (result,) = scaling.recover([pipeline_of(shape, world)]).results
    assert result.stages["1"].fate == "failed"
    assert result.stages["1"].error == "ValueError: 1"
    assert result.with_fate("undone") == ("0",)


def left_under_way(pipeline: Pipeline) -> World:
    """What a process leaves that was killed while all of these stages ran."""
    world = World()
    begun = Entry(
        kind="begun",
        transaction="t",
        pipeline=pipeline.name,
        fingerprint=fingerprint_of(pipeline),
        values={"inputs": pickle.dumps("in")},
    )
    started = [Entry(kind="stage started", transaction="t", stage=stage.name) for stage in pipeline.stages]
    world.append(record_of(entry.to_bytes() for entry in (begun, *started)))
    return world


def test_a_recovery_that_stops_half_way_begins_nothing_again_that_it_has_ended() -> None:
    """The disk was full when the second stage had ended; the next attempt in the process runs that one alone."""
    shape = Shape(((), ()), (True, True), frozenset(), frozenset())
    world = left_under_way(pipeline_of(shape, World()))
    pipeline = pipeline_of(shape, world)
    with process(world) as scaling:
        world.fails = lambda record: any((one.kind, one.stage) == ("stage done", "1") for one, _ in entries_of(record))
        assert isinstance(scaling.recover([pipeline]).refused[0], LeaseError)
        assert states(scaling) == {"t": {"0": "done", "1": "running"}}
        world.fails = lambda record: False
        assert scaling.recover([pipeline]).results[0].outcome == "rolled back"
    assert world.calls("do") == ["0", "1", "1"]
    assert sorted(world.acts("undo")) == ["0", "1"]


def test_what_cannot_be_kept_of_a_stage_leaves_the_transaction_open() -> None:
    """The stage has done its work: it must not pass for one that failed and left nothing."""
    world = World()
    given: list[Any] = [threading.Lock(), "well"]

    def run(job: Job) -> Any:
        world.act("do", job.key)
        return given.pop(0)

    pipeline = build("p", [Stage(name="a", run=run, undo=lambda job: world.act("undo", job.key, job.captured))])
    world.records = left_under_way(pipeline).records
    with process(world) as scaling:
        assert "what stage 'a' gave cannot be kept: TypeError" in str(scaling.recover([pipeline]).refused[0])
        assert scaling.recover([pipeline]).results[0].with_fate("undone") == ("a",)
    assert world.ledger[-1] == ("undo", "a", "well")


def test_what_comes_behind_the_end_of_a_transaction_opens_it_no_more() -> None:
    """A copy that was made to let the beginning of the journal go may come to lie there."""
    world = fullest(run_recorded(CHAIN))
    world.append(world.records[0][1])
    with process(world) as scaling:
        assert states(scaling) == {}


@pytest.mark.parametrize("on_open", ["both", None])
def test_an_unknown_policy_is_refused(on_open: Any) -> None:
    """The error names what there is."""
    with process(World()) as scaling, pytest.raises(ConfigurationError, match='"rollback" or "resume"'):
        scaling.recover([], on_open=on_open)


def test_two_pipelines_of_one_name_are_refused() -> None:
    """Nobody could say which one a transaction is of."""
    world = World()
    pipeline = pipeline_of(CHAIN, world)
    with process(world) as scaling, pytest.raises(ConfigurationError, match="one of each name"):
        scaling.recover([pipeline, pipeline])


# -- what is written ---------------------------------------------------------------------------------------------------


def entries(world: World) -> list[tuple[str, str | None]]:
    """Kind and stage of all that is in the journal."""
    return [(entry.kind, entry.stage) for _, record in world.records for entry, _ in entries_of(record)]


def fullest(world: World) -> World:
    """The world before anything was acknowledged."""
    return max(world.snapshots, key=lambda one: len(one.records))


def test_every_step_is_in_the_journal() -> None:
    """In the order in which they took effect."""
    world = run_recorded(attrs.evolve(CHAIN, failing=frozenset({2})))
    assert entries(fullest(world)) == [
        ("begun", None),
        ("stage started", "0"),
        ("stage done", "0"),
        ("stage started", "1"),
        ("stage done", "1"),
        ("stage started", "2"),
        ("stage failed", "2"),
        ("undo started", "1"),
        ("undo done", "1"),
        ("undo started", "0"),
        ("undo done", "0"),
        ("ended", None),
    ]


def test_a_step_that_another_one_follows_is_written_with_it() -> None:
    """A chain of three stages takes one record for its beginning, one for each stage, and two for its end."""
    assert len(fullest(run_recorded(CHAIN)).records) == 1 + 3 + 2


@pytest.mark.parametrize("nbytes", [100, 20 * KIB])
def test_values_come_back_whatever_their_size(nbytes: int) -> None:
    """Small ones are in the journal, large ones in the store, and nothing is in the store when all is over."""
    world = World(records_steps=True)

    def pipeline() -> Pipeline:
        given = Stage(name="a", run=lambda job: job.inputs + "a", undo=lambda job: None, capture=lambda made: made * 2)
        return build("p", [given, Stage(name="b", run=lambda job: world.act("do", job.key, job["a"]), needs="a")])

    with process(world) as scaling:
        scaling.run(pipeline(), "i" * nbytes, durable=True)
    assert world.content == {}
    assert world.ledger[-1] == ("do", "b", "i" * nbytes + "a")
    crash = next(one for one in world.snapshots if ("stage done", "a") in entries(one))
    assert bool(crash.content) == (nbytes > 16 * KIB)
    second = crash.copy()
    world.ledger.clear()
    with process(second) as scaling:
        assert scaling.recover([pipeline()], on_open="resume").results[0].outcome == "done"
    assert world.ledger[-1] == ("do", "b", "i" * nbytes + "a")
    assert second.content == {}


def test_a_damaged_value_keeps_the_transaction() -> None:
    """The store has something else under the key: nothing of it is unpickled."""
    world = World(records_steps=True)
    pipeline = build("p", [Stage(name="a", run=lambda job: 1)])
    with process(world) as scaling:
        scaling.run(pipeline, "i" * 20 * KIB, durable=True)
    crash = next(one for one in world.snapshots if one.records)
    for key in crash.content:
        crash.content[key] = b"cos\nabort\n."
    with process(crash) as scaling:
        (error,) = scaling.recover([pipeline], on_open="resume").refused
        assert isinstance(error, StorageDamaged)
        assert len(states(scaling)) == 1


def test_inputs_that_cannot_be_pickled_are_refused_before_anything_begins() -> None:
    """The error is that of pickle, and nothing is left of the transaction."""
    world = World()
    with process(world) as scaling:
        with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
            scaling.run(pipeline_of(CHAIN, world), threading.Lock(), durable=True)
        assert states(scaling) == {}
    assert world.ledger == []
    assert world.records == []


def test_a_result_that_cannot_be_pickled_fails_its_stage() -> None:
    """It is undone, as far as anything can be."""
    world = World()
    keep = Stage(name="a", run=lambda job: 1, undo=lambda job: world.act("undo", job.key))
    bad = Stage(name="b", run=lambda job: threading.Lock(), needs="a")
    with process(world) as scaling, pytest.raises(TransactionFailed) as caught:
        scaling.run(build("p", [keep, bad]), durable=True)
    assert "pickle" in str(caught.value.exceptions[0])
    assert world.acts("undo") == ["a"]


# -- a journal that does not do what it should -------------------------------------------------------------------------


def failing_at(kind: str, *, times: int = 10**9) -> Callable[[bytes], bool]:
    """A full disk, from a step on."""
    left = [times]
    found = [False]

    def fails(payload: bytes) -> bool:
        found[0] = found[0] or any(entry.kind == kind for entry, _ in entries_of(payload))
        left[0] -= found[0]
        return found[0] and left[0] >= 0

    return fails


@pytest.mark.parametrize("kind", ["begun", "stage started", "stage done"])
def test_a_full_disk_stops_the_transaction_and_undoes_it(kind: str) -> None:
    """What could not be written did not take effect, and the rollback does not wait for the disk."""
    world = World()
    world.fails = failing_at(kind)
    with process(world) as scaling, pytest.raises((TransactionFailed, LeaseError), match="the disk is full"):
        scaling.run(pipeline_of(CHAIN, world), "in", durable=True)
    assert sorted(world.acts("do")) == sorted(world.acts("undo"))


def test_what_a_full_disk_left_in_the_journal_is_rolled_back_with_the_same_keys() -> None:
    """The undo was not written down, so it is called once more, and knows by its key that it has done its work."""
    world = World()
    world.fails = failing_at("undo done")
    shape = attrs.evolve(CHAIN, failing=frozenset({2}))
    with process(world) as scaling, pytest.raises(TransactionFailed):
        scaling.run(pipeline_of(shape, world), "in", durable=True)
    assert world.acts("undo") == ["1", "0"]
    second = recovered(shape, world, "resume")
    assert second.acts("undo") == ["1", "0"]
    assert second.calls("undo") == ["1", "0", "1", "0"]


def test_a_step_that_was_to_be_written_with_another_is_written_with_the_next() -> None:
    """The record that had both could not be written; what had happened before is not lost by that."""
    world = World(records_steps=True)

    def second_start_once(payload: bytes) -> bool:
        kinds = [(entry.kind, entry.stage) for entry, _ in entries_of(payload)]
        is_it = kinds == [("stage done", "0"), ("stage started", "1")]
        seen.extend([1] if is_it else [])
        return is_it and len(seen) == 1

    seen: list[int] = []
    world.fails = second_start_once
    with process(world) as scaling, pytest.raises(TransactionFailed):
        scaling.run(pipeline_of(CHAIN, world), "in", durable=True)
    assert seen
    assert ("stage done", "0") in entries(fullest(world))
    assert ("stage started", "1") not in entries(fullest(world))


def test_a_complete_transaction_is_undone_only_once_that_is_written() -> None:
    """All stages were done, and it was called off: without a record of that, a crash would leave it for complete."""
    world = World()
    token = CancelToken()

    def observe(transition: Transition) -> None:
        if (transition.kind, transition.stage) == ("stage done", "2"):
            world.fails = failing_at("undo started")

    def late(job: Job) -> None:
        world.act("do", job.key)
        token.set()

    last = Stage(name="2", run=late, undo=lambda job: world.act("undo", job.key))
    with process(world) as scaling, pytest.raises(TransactionFailed) as caught:
        scaling.run(build("p", [last]), durable=True, cancel=token, observer=observe)
    assert caught.value.result is not None
    assert caught.value.result.outcome == "incomplete"
    assert world.acts("undo") == []
    with process(world.copy()) as scaling:
        assert scaling.recover([build("p", [last])]).results[0].outcome == "done"


def test_an_undo_that_failed_for_good_is_not_tried_again_behind_those_that_it_waited_for() -> None:
    """What it needs was undone already: it would find nothing of that."""
    shape = attrs.evolve(CHAIN, failing=frozenset({2}), stuck=frozenset({1}))
    first = run_recorded(shape)
    crash = next(one for one in first.snapshots if ("undo started", "0") in entries(one) or one.acts("undo"))
    second = recovered(shape, crash, "rollback")
    assert second.calls("undo").count("1") == 1
    assert second.acts("undo") == ["0"]


def test_a_journal_with_a_damaged_middle_is_left_alone() -> None:
    """Nobody can say what was written behind the damage, so nothing is begun, and nothing acknowledged."""
    world = left_by(CHAIN, calls=2)
    world.damage = "a checksum is wrong"
    before = list(world.records)
    with process(world) as scaling:
        for attempt in (scaling.open_transactions, lambda: scaling.recover([])):
            with pytest.raises(StorageDamaged, match="a checksum is wrong"):
                attempt()
        with pytest.raises(StorageDamaged):
            scaling.run(pipeline_of(CHAIN, world), "in", durable=True)
    assert world.records == before


def test_a_record_of_a_later_release_is_refused() -> None:
    """The text names both versions, and the journal stays as it is."""
    world = left_by(CHAIN, calls=2)
    world.records.append((world.records[-1][0] + 1, b"WP\x07" + b"what nobody knows yet"))
    with process(world) as scaling, pytest.raises(StateRefused, match=r"wanted version 1, had version 7"):
        scaling.open_transactions()


def test_without_a_store_nothing_can_be_durable() -> None:
    """What is not durable runs all the same."""
    world = World()
    with process(None) as scaling:
        with pytest.raises(ServiceUnavailable):
            scaling.run(pipeline_of(CHAIN, world), "in", durable=True)
        assert world.ledger == []
        assert scaling.run(pipeline_of(CHAIN, world), "in").outcome == "done"


def test_a_journal_that_another_process_has_is_refused() -> None:
    """Its transactions are not open: they run."""
    world = World()
    with process(world) as one, process(world) as other:
        assert one.open_transactions() == ()
        with pytest.raises(LeaseError, match="another process"):
            other.recover([])


# -- its size ----------------------------------------------------------------------------------------------------------


def test_the_journal_does_not_grow_though_a_transaction_is_open() -> None:
    """What is open is copied to the end, and the beginning goes; nothing of the open one is lost by that."""
    world = World()
    begun, go_on = threading.Event(), threading.Event()
    small = 64 * KIB

    def wait(job: Job) -> str:
        world.act("do", job.key)
        begun.set()
        assert go_on.wait(30)
        return str(job["first"])

    first = Stage(name="first", run=lambda job: job.inputs, undo=lambda job: world.act("undo", job.key, job.captured))
    long_one = build("long", [first, Stage(name="second", run=wait, needs="first")])
    short = build("short", [Stage(name="a", run=lambda job: "x" * KIB, undo=lambda job: None)])
    with process(world, journal_bytes=small) as scaling:
        handle = scaling.submit(long_one, "kept", durable=True)
        assert begun.wait(30)
        most = 0
        for _ in range(100):
            scaling.run(short, durable=True)
            most = max(most, sum(len(payload) for _, payload in world.records))
        crash = world.copy()
        go_on.set()
        assert handle.result(30)["second"] == "kept"
    assert 4 * KIB < most < small
    assert crash.mark > 100
    with process(crash) as scaling:
        (result,) = scaling.recover([long_one]).results
    assert result.with_fate("undone") == ("first",)
    assert world.ledger[-1] == ("undo", "first", "kept")


def test_from_any_step_of_many_at_once_each_comes_to_a_legal_end() -> None:
    """While the beginning of the journal goes, again and again, and transactions run side by side."""
    world = World(records_steps=True)
    names = [f"{thread}{turn}" for thread in "ABCD" for turn in range(9)]
    with process(world, journal_bytes=64 * KIB) as scaling:
        threads = [
            threading.Thread(target=_run_all, args=(scaling, world, [name for name in names if name[0] == thread]))
            for thread in "ABCD"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    marks = {one.mark for one in world.snapshots}
    assert len(marks) > 3
    for crash in world.snapshots[:: max(1, len(world.snapshots) // 60)]:
        with process(crash) as scaling:
            assert scaling.recover([three(name, crash) for name in names]).refused == ()
        for name in names:
            done, undone = [{one for one in crash.acts(verb) if one[:2] == name} for verb in ("do", "undo")]
            assert undone == done if len(done) < 3 else undone in (set(), done)
        assert len(set(crash.acts("do"))) == len(crash.acts("do"))
        assert len(set(crash.acts("undo"))) == len(crash.acts("undo"))


def three(name: str, world: World) -> Pipeline:
    """A chain of three stages of its own."""

    def run(job: Job) -> Any:
        world.act("do", job.key)
        return job.inputs

    def undo(job: UndoJob) -> None:
        world.act("undo", job.key)

    chained = [Stage(name=name + one, run=run, undo=undo, needs=[name + two] if two else []) for one, two in _CHAINED]
    return build(name, chained)


_CHAINED = (("a", ""), ("b", "a"), ("c", "b"))


def _run_all(scaling: PipelineScaling, world: World, names: list[str]) -> None:
    for name in names:
        scaling.run(three(name, world), "i" * 300, durable=True)


def test_what_is_over_is_acknowledged_at_the_end() -> None:
    """The next process has nothing to read."""
    world = run_recorded(CHAIN)
    assert world.records == []


def test_open_transactions_may_fill_a_part_of_the_journal_only() -> None:
    """One more is refused before it has begun: those that run need room to end."""
    heavy = World(records_steps=True)
    inputs = "i" * 9 * KIB
    pipeline = build("p", [Stage(name="a", run=lambda job: 1)])
    with process(heavy, journal_bytes=64 * KIB) as scaling:
        scaling.run(pipeline, inputs, durable=True)
    crash = next(one for one in heavy.snapshots if one.records)
    with process(crash, journal_bytes=64 * KIB) as scaling:
        with pytest.raises(Saturated, match="1 open transactions fill the journal"):
            scaling.run(pipeline, durable=True)
        assert len(scaling.recover([pipeline]).results) == 1
        assert scaling.run(pipeline, durable=True).outcome == "done"


# -- the format --------------------------------------------------------------------------------------------------------

Texts = st.none() | st.text(max_size=20)
Values = st.dictionaries(
    st.sampled_from(["inputs", "captured", "result"]),
    st.binary(max_size=50) | st.builds(Spilled, st.text(max_size=20), st.binary(min_size=16, max_size=16)),
)
Entries = st.builds(
    Entry,
    kind=st.sampled_from(["begun", "stage done", "undo failed", "ended"]),
    transaction=st.text(min_size=1, max_size=20),
    stage=Texts.filter(lambda text: text != ""),
    attempt=st.integers(0, 9),
    outcome=st.sampled_from([None, "done", "rolled back", "incomplete"]),
    values=Values,
)


@given(st.lists(Entries, max_size=4))
def test_a_record_says_what_was_put_into_it(given: list[Entry]) -> None:
    """Whatever the names and values are."""
    record = record_of(entry.to_bytes() for entry in given)
    assert [entry for entry, _ in entries_of(record)] == given
    assert record_of(content for _, content in entries_of(record)) == record


@given(st.lists(Entries, min_size=1, max_size=3), st.data())
def test_a_record_that_was_cut_off_is_noticed(given: list[Entry], data: st.DataObject) -> None:
    """Either the entries that are whole are all that there was, or it is refused."""
    contents = [entry.to_bytes() for entry in given]
    record = record_of(contents)
    end = data.draw(st.integers(0, len(record) - 1))
    whole = {len(record_of(contents[:count])) for count in range(len(contents) + 1)}
    if end in whole:
        assert len(list(entries_of(record[:end]))) < len(given)
    else:
        with pytest.raises((StateRefused, StorageDamaged)):
            list(entries_of(record[:end]))
