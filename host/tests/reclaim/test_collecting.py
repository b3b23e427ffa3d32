"""Collecting and walking the heap while other threads are at work."""

from __future__ import annotations

import codecs
import encodings
import gc
import sys
import threading
import weakref
from collections.abc import Iterator
from types import FunctionType, ModuleType

import pytest

from weighbridge.reclaim.belongings import Belongings
from weighbridge.reclaim.collection import collect
from weighbridge.reclaim.heap import gather
from weighbridge.reclaim.ties.catalogue import wanted
from weighbridge.reclaim.ties.codings import CachedCodecs, CodecErrors, CodecSearches

NAME = "leaver_while_others_collect"


class Cycle:
    """Only the collector can free it."""

    def __init__(self) -> None:
        self.itself = self


class Slow(Cycle):
    """Its finalizer waits until it may end."""

    begun, go = threading.Event(), threading.Event()

    def __del__(self) -> None:
        Slow.begun.set()
        Slow.go.wait()


@pytest.fixture
def collecting() -> Iterator[threading.Thread]:
    """A thread in the middle of a collection."""
    Slow.begun.clear()
    Slow.go.clear()
    gc.collect()
    gc.disable()
    Slow()
    thread = threading.Thread(target=gc.collect)
    thread.start()
    Slow.begun.wait()
    yield thread
    Slow.go.set()
    thread.join()
    gc.enable()


def test_a_collection_waits_for_that_of_another_thread(collecting: threading.Thread) -> None:
    """What became garbage meanwhile is gone when it returns, which a call of gc.collect does not promise."""
    reference = weakref.ref(Cycle())
    gc.collect()
    assert reference() is not None, "gc.collect no longer gives up: this module is not needed any more"
    threading.Timer(0.05, Slow.go.set).start()
    assert collect(60.0)
    assert reference() is None


def test_a_collection_gives_up_in_the_end(collecting: threading.Thread) -> None:
    """Whoever asks learns that nothing was collected."""
    assert not collect(0.01)


def test_callbacks_of_others_stay_as_they_are() -> None:
    """They are told of the collection, in their order, and compared with nothing."""

    class Note:
        def __init__(self) -> None:
            self.phases: list[str] = []

        def __call__(self, phase: str, info: dict[str, int]) -> None:
            self.phases.append(phase)

        def __eq__(self, other: object) -> bool:
            raise AssertionError("it was compared")

        __hash__ = object.__hash__

    notes = [Note(), Note()]
    before = [*map(id, gc.callbacks), *map(id, notes)]
    gc.callbacks.extend(notes)
    try:
        assert collect(60.0)
        assert [*map(id, gc.callbacks)] == before
    finally:
        gc.callbacks[:] = [one for one in gc.callbacks if not isinstance(one, Note)]
    assert notes[0].phases[:2] == ["start", "stop"]


def test_a_walk_over_the_heap_holds_nothing_afterwards() -> None:
    """Neither an object that was looked at nor the list of them all: they would live until the next collection."""
    kept = Cycle()
    kept.itself = None  # type: ignore[assignment]
    reference = weakref.ref(kept)
    gc.disable()
    try:
        found = gather([FunctionType])
        del kept
        assert reference() is None
    finally:
        gc.enable()
    assert gather in found[FunctionType]


def test_a_walk_over_the_heap_leaves_the_switch_interval_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a long one a thread that lost the interpreter would get it back only when the others give it up."""

    def refuse(seconds: float) -> None:
        raise AssertionError(f"the interval was set to {seconds}")

    monkeypatch.setattr(sys, "setswitchinterval", refuse)
    assert gather([type])[type]


def test_look_alikes_of_the_registries_of_codecs_are_somebody_elses() -> None:
    """Lists and dictionaries of an application that begin as the interpreter's do are no ties, and not cut."""
    module = sys.modules[NAME] = ModuleType(NAME)
    exec("def search(name): return None", vars(module))
    search = vars(module)["search"]
    paths = [vars(encodings)["search_function"], search]
    cache = {"utf-8": codecs.lookup("utf-8"), "mine": codecs.CodecInfo(search, search, name="mine")}
    names = ("strict", "ignore", "surrogatepass", "surrogateescape")
    errors = {**{name: codecs.lookup_error(name) for name in names}, "mine": search}
    own = Belongings.of([NAME], wanted())
    del sys.modules[NAME]
    assert [tie.cut_all(own, unsafe=True) for tie in (CachedCodecs(), CodecSearches(), CodecErrors())] == [(), (), ()]
    assert (len(paths), len(cache), len(errors)) == (2, 2, 5)


def test_the_registries_of_codecs_are_found_beside_look_alikes() -> None:
    """An application's own list does not stand in the way of the interpreter's."""
    module = sys.modules[NAME] = ModuleType(NAME)
    exec("def search(name): return None", vars(module))
    search = vars(module)["search"]
    paths = [vars(encodings)["search_function"], search]
    codecs.register(search)
    own = Belongings.of([NAME], wanted())
    del sys.modules[NAME]
    [finding] = CodecSearches().cut_all(own, unsafe=False)
    assert (finding.outcome, len(paths)) == ("cut", 2)
