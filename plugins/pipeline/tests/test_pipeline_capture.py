"""Captured state: copies, in memory or in the store, and gone when the transaction is."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from weighbridge_hookspecs import ServiceUnavailable, StorageDamaged, StorageFailed

from weighbridge_pipeline import Job, PipelineScaling, PipelineSettings, Stage, TransactionFailed, UndoJob, build
from weighbridge_pipeline.capture import FOLDER, Captured, Shelf, sweep

KIB = 1024
LIMIT = 10 * KIB


class Store:
    """A store in memory."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.fails = ""

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.content))

    def get(self, key: str) -> bytes | None:
        return self.content.get(key)

    def put(self, key: str, value: bytes) -> None:
        if self.fails == "put":
            raise StorageFailed("the disk is full")
        self.content[key] = value

    def delete(self, key: str) -> None:
        if self.fails == key:
            raise StorageFailed("the disk is broken")
        self.content.pop(key, None)

    def keys(self, prefix: str = "") -> Iterator[str]:
        return (key for key in self if key.startswith(prefix))


class Gate(threading.Semaphore):
    """As much of a gate as is needed where nobody has to wait."""

    def enter(self, **options: Any) -> Gate:
        return self

    def release(self, n: int = 1) -> None:
        super().release(n)


class Surroundings:
    """A context that lends a gate, and a store if it was given one."""

    def __init__(self, store: Store | None) -> None:
        self.lent = store

    @property
    def store(self) -> Any:
        if self.lent is None:
            raise ServiceUnavailable("there is no store")
        return self.lent

    def gate(self, limit: int, **options: Any) -> Any:
        return Gate(limit)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def pipelines(store: Store) -> Iterator[PipelineScaling]:
    scaling = PipelineScaling(PipelineSettings(capture_bytes=LIMIT), Surroundings(store))
    yield scaling
    scaling.close()


def fails(job: Job) -> None:
    raise ValueError("no")


def shelf(store: Store) -> Shelf:
    return Shelf("t", lambda: store, LIMIT)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_a_copy_is_the_value(value: Any) -> None:
    """In memory or in the store, what comes back is what was captured, of the same type."""
    store, captured = Store(), Captured(value)
    for _ in range(2):
        found = captured.load(lambda: store)
        assert found == value
        assert type(found) is type(value)
        captured.spill(store, "key")


def test_a_copy_is_no_reference() -> None:
    """Neither what the stage changes later nor what one undo changes is seen by the next attempt."""
    value = {"files": [1]}
    captured = Captured(value)
    value["files"].append(2)
    first = captured.load(Store)
    assert first == {"files": [1]}
    first["files"].clear()
    assert captured.load(Store) == {"files": [1]}


@pytest.mark.parametrize("value", [b"x" * 999, "x" * 999, 10**999])
def test_what_cannot_change_is_not_copied(value: Any) -> None:
    """Bytes, texts and numbers are kept as they are, and weigh what they take."""
    captured = Captured(value)
    assert captured.load(Store) is value
    assert captured.nbytes >= 400
    assert pickle.loads(captured.to_bytes()) == value


def test_a_subclass_is_pickled() -> None:
    """Only the exact types are known not to change."""

    assert Captured(Sub("x")).is_pickled


class Sub(str):
    """A text with attributes."""


def test_a_memoryview_is_captured_as_bytes() -> None:
    """Its owner may change the memory."""
    content = bytearray(b"abc")
    captured = Captured(memoryview(content))
    content[0] = 0
    assert captured.load(Store) == b"abc"


def test_up_to_the_limit_it_stays_in_memory_and_above_it_goes(store: Store) -> None:
    """The limit itself is the last that is kept; what is in the store takes no memory."""
    captured = shelf(store)
    assert not captured.keep("a", b"x" * LIMIT).is_spilled
    assert captured.held_bytes == LIMIT
    assert captured.keep("b", b"x" * (LIMIT + 1)).is_spilled
    assert captured.held_bytes == LIMIT
    assert list(store) == [f"{FOLDER}/t/b"]
    assert captured.load("b") == b"x" * (LIMIT + 1)
    assert (captured.spilled, captured.spilled_bytes) == (1, LIMIT + 1)
    captured.clear()
    assert list(store) == []
    assert captured.held_bytes == 0


def test_what_is_spilled_comes_back_for_the_undo(pipelines: PipelineScaling, store: Store) -> None:
    """It is in the store while the transaction runs, under its name, and nothing is left of it afterwards."""
    seen: list[str] = []
    got: list[int] = []

    def look_then_fail(job: Job) -> None:
        seen.extend(store)
        raise ValueError("no")

    def undo(job: UndoJob) -> None:
        got.append(len(job.captured))

    stages = [
        Stage(name="a", run=lambda job: b"x" * 11 * KIB, undo=undo),
        Stage(name="b", run=look_then_fail, needs="a"),
    ]
    with pytest.raises(TransactionFailed) as caught:
        pipelines.run(build("p", stages))
    assert caught.value.result is not None
    assert seen == [f"internal/pipeline-state/{caught.value.result.transaction}/a"]
    assert got == [11 * KIB]
    assert list(store) == []
    assert caught.value.result.spilled_bytes == pipelines.statistics().spilled_bytes == 11 * KIB


def test_nothing_is_left_in_the_store_after_a_good_end(pipelines: PipelineScaling, store: Store) -> None:
    """What was captured in vain is forgotten, too."""
    pipelines.run(build("p", [Stage(name="a", run=lambda job: b"x" * 11 * KIB, undo=print)]))
    assert list(store) == []
    assert pipelines.statistics().spilled_bytes == 11 * KIB


@pytest.mark.parametrize("lent", [None, Store()])
def test_without_room_in_a_store_the_stage_fails_and_is_undone(lent: Store | None) -> None:
    """There is none, or it is full: the copy is in memory still, and the undo gets it."""
    if lent is not None:
        lent.fails = "put"
    scaling, got = PipelineScaling(PipelineSettings(capture_bytes=LIMIT), Surroundings(lent)), []
    stage = Stage(name="a", run=lambda job: b"x" * 11 * KIB, undo=lambda job: got.append(len(job.captured)))
    with pytest.raises(TransactionFailed) as caught:
        scaling.run(build("p", [stage]))
    scaling.close()
    assert isinstance(caught.value.exceptions[0].__cause__, StorageFailed if lent is not None else ServiceUnavailable)
    assert got == [11 * KIB]


@pytest.mark.parametrize("damage", [lambda store, key: store.delete(key), lambda store, key: store.put(key, b"evil")])
def test_what_the_store_changed_is_not_unpickled(store: Store, damage: Any) -> None:
    """A store may be elsewhere, and a pickle can do anything: what is not what was put there is refused."""
    captured = shelf(store)
    captured.keep("a", ["x" * LIMIT])
    damage(store, f"{FOLDER}/t/a")
    with pytest.raises(StorageDamaged, match=r"the captured state 'internal/pipeline-state/t/a' is"):
        captured.load("a")


def test_short_memory_moves_copies_to_the_store(store: Store) -> None:
    """The biggest first, no more than are needed, and each can still be loaded."""
    captured = shelf(store)
    for name, nbytes in (("a", 2 * KIB), ("b", 5 * KIB), ("c", 3 * KIB)):
        captured.keep(name, b"x" * nbytes)
    assert captured.release(6 * KIB) == 8 * KIB
    assert sorted(key[-1] for key in store) == ["b", "c"]
    assert [len(captured.load(name)) for name in "abc"] == [2 * KIB, 5 * KIB, 3 * KIB]
    assert captured.release(KIB) == 2 * KIB
    assert captured.release(KIB) == 0


def test_the_plugin_gives_memory_back_while_a_transaction_runs(pipelines: PipelineScaling, store: Store) -> None:
    """What undos may need is counted, and can wait in the store."""
    figures: list[int] = []

    def look(job: Job) -> None:
        figures.append(pipelines.captured_bytes)
        figures.append(pipelines.release_memory(1))
        figures.append(pipelines.captured_bytes)

    stages = [Stage(name="a", run=lambda job: b"x" * 9 * KIB, undo=print), Stage(name="b", run=look, needs="a")]
    pipelines.run(build("p", stages))
    assert figures == [9 * KIB, 9 * KIB, 0]
    assert pipelines.captured_bytes == 0
    assert list(store) == []


def test_a_sweep_forgets_what_a_crash_left_and_nothing_else(store: Store) -> None:
    """Other keys stay, and so do states of transactions that are to be recovered."""
    for key in (f"{FOLDER}/dead/a", f"{FOLDER}/dead/b", f"{FOLDER}/open/a", "internal/other", "mine"):
        store.put(key, b"x")
    assert sweep(store, keep=lambda transaction: transaction == "open") == 2
    assert set(store) == {f"{FOLDER}/open/a", "internal/other", "mine"}


def test_one_that_cannot_be_forgotten_keeps_no_other(store: Store) -> None:
    """Every other state goes; the error says what went wrong."""
    captured = shelf(store)
    for name in "abc":
        captured.keep(name, b"x" * (LIMIT + 1))
    store.fails = f"{FOLDER}/t/a"
    with pytest.raises(StorageFailed, match="the disk is broken"):
        captured.clear()
    assert list(store) == [f"{FOLDER}/t/a"]


def test_a_store_that_cannot_forget_spoils_no_result(pipelines: PipelineScaling, store: Store) -> None:
    """The transaction has ended well; the failure is logged and counted, and a sweep gets what is left."""

    def run(job: Job) -> bytes:
        store.fails = f"{FOLDER}/{job.key}"
        return b"x" * 11 * KIB

    assert pipelines.run(build("p", [Stage(name="a", run=run, undo=print)])).outcome == "done"
    assert pipelines.statistics().clean_up_failures == 1
    store.fails = ""
    assert pipelines.sweep() == 1
