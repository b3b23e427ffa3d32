"""What every store keeps to, wherever its bytes are."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from obstore.store import LocalStore, MemoryStore
from weighbridge_hookspecs import ConfigurationError, ContextClosed, Store

from weighbridge.leases.object_store import ObjectBucket
from weighbridge.leases.store import FILE_BYTES, NamespaceStore, StoreFile
from weighbridge.leases.stores import index as index_module


class Opened(Protocol):
    """What both kinds of stores have in common besides their namespaces."""

    def namespace(self, name: str, *, max_bytes: int | None = None) -> NamespaceStore: ...

    def drop(self, name: str) -> None: ...

    def close(self) -> None: ...


Opener: TypeAlias = Callable[[Path], Opened]


def small_values(folder: Path) -> Opened:
    return StoreFile(folder / "store.sqlite3")


def files_only(folder: Path) -> Opened:
    return StoreFile(folder / "store.sqlite3", file_bytes=1)


def memory(folder: Path) -> Opened:
    return ObjectBucket(MemoryStore())


def folder_of_objects(folder: Path) -> Opened:
    return ObjectBucket(LocalStore(folder / "objects", mkdir=True))


OPENERS: Final = (small_values, files_only, memory, folder_of_objects)
SIZES: Final = (0, 1, 1000, FILE_BYTES - 1, FILE_BYTES, FILE_BYTES + 1, 300_000)
KEYS: Final = (
    "a",
    "A",
    "a/b",
    "a/b/",
    "/",
    ".",
    "..",
    ".a",
    "a b",
    "%",
    "a%2Fb",
    "!",
    "a#1",
    "é",
    "日本",
    "\0",
    "k" * 255,
)
LONG: Final = ("ä" * 127, "x" * 200, "x" * 200 + ".", "x" * 200 + "..", "x" * 199 + "/y", "/" * 255, "x" * 201)


@pytest.fixture(autouse=True, scope="module")
def without_syncs() -> Iterator[None]:
    """Nothing here is about crashes, and disks are slow: those tests are in test_store_crashes.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.setattr(index_module, "_SETTINGS", ("PRAGMA synchronous=OFF",))
        yield


@pytest.fixture(params=OPENERS, ids=lambda opener: opener.__name__)
def opener(request: pytest.FixtureRequest) -> Opener:
    chosen: Opener = request.param
    return chosen


@pytest.fixture
def opened(opener: Opener, tmp_path: Path) -> Iterator[Opened]:
    found = opener(tmp_path)
    yield found
    found.close()


@pytest.fixture
def store(opened: Opened) -> NamespaceStore:
    return opened.namespace("kettle")


def test_it_is_a_store_of_the_contract(store: NamespaceStore) -> None:
    """A type checker takes the handle for the protocol, and the protocol is enough to use it."""
    contract: Store = store
    contract.put("tea", b"green")
    assert (contract.get("tea"), list(contract.keys())) == (b"green", ["tea"])
    contract.delete("tea")
    assert contract.get("tea") is None


@pytest.mark.parametrize("size", SIZES)
def test_a_value_comes_back_as_it_was_put(store: NamespaceStore, size: int) -> None:
    """Every byte is there, for sizes on both sides of the one from which values are files."""
    value = bytes(number % 251 for number in range(size))
    store.put("tea", value)
    assert store.get("tea") == value


@pytest.mark.parametrize("view", [bytearray, memoryview, lambda value: memoryview(bytearray(value))])
def test_a_value_may_be_any_block_of_bytes(store: NamespaceStore, view: Callable[[bytes], Any]) -> None:
    """What bytes can be made of is taken, and bytes come back."""
    store.put("tea", view(b"green"))
    assert type(store.get("tea")) is bytes
    assert store.get("tea") == b"green"


@pytest.mark.parametrize(("before", "after"), [(b"a", b"b" * FILE_BYTES), (b"b" * FILE_BYTES, b"a"), (b"a", b"")])
def test_a_put_replaces_what_was_there(store: NamespaceStore, before: bytes, after: bytes) -> None:
    """The last value counts, whichever of the two was a file."""
    store.put("tea", before)
    store.put("tea", after)
    assert store.get("tea") == after
    assert list(store.keys()) == ["tea"]


def test_an_unknown_key_is_none_and_may_be_deleted(store: NamespaceStore) -> None:
    """Asking for what is not there is no error, and neither is forgetting it."""
    assert store.get("tea") is None
    store.delete("tea")
    assert list(store.keys()) == []


def test_every_key_is_kept_apart(store: NamespaceStore) -> None:
    """Slashes, dots, signs of escape, letters of all kinds and long keys are keys like others, in their order."""
    keys = (*KEYS, *LONG)
    for key in keys:
        store.put(key, key.encode())
    assert [store.get(key) for key in keys] == [key.encode() for key in keys]
    assert list(store.keys()) == sorted(keys)
    for key in keys:
        store.delete(key)
    assert list(store.keys()) == []


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b", "é", "nothing", "%"])
def test_keys_of_a_prefix_are_sorted_and_complete(store: NamespaceStore, prefix: str) -> None:
    """A prefix is a beginning of keys, and not a folder."""
    for key in KEYS:
        store.put(key, b"")
    assert list(store.keys(prefix)) == sorted(key for key in KEYS if key.startswith(prefix))


def test_keys_may_be_deleted_while_they_are_listed(store: NamespaceStore) -> None:
    """Every key that was there is seen once, although each is deleted as soon as it was seen."""
    names = [f"{number:02}" for number in range(20)]
    for key in names:
        store.put(key, b"")
    seen = []
    listed = store.keys()
    for key in listed:
        seen.append(key)
        store.delete(key)
    assert (seen, list(store.keys())) == (names, [])


def test_namespaces_do_not_see_each_other(opened: Opened) -> None:
    """The same key in two namespaces is two keys, even if one's name is the beginning of the other's."""
    first, second, third = (opened.namespace(name) for name in ("a", "a/b", "ab"))
    first.put("b/c", b"1")
    second.put("c", b"2")
    assert (first.get("b/c"), second.get("c"), first.get("c"), third.get("c")) == (b"1", b"2", None, None)
    assert [list(one.keys()) for one in (first, second, third)] == [["b/c"], ["c"], []]


def test_dropping_a_namespace_leaves_the_others(opened: Opened) -> None:
    """Every key of one namespace is gone, large values too, and the other one's are there; its handle still works."""
    first, second = opened.namespace("a"), opened.namespace("b")
    for store in (first, second):
        store.put("small", b"1")
        store.put("large", b"2" * FILE_BYTES)
    opened.drop("a")
    assert list(first.keys()) == []
    assert [second.get(key) for key in ("small", "large")] == [b"1", b"2" * FILE_BYTES]
    first.put("small", b"3")
    assert first.get("small") == b"3"


def test_two_handles_of_one_namespace_see_the_same(opened: Opened) -> None:
    """A handle holds no copy: what one of them puts the other one gets."""
    opened.namespace("a").put("tea", b"green")
    assert opened.namespace("a").get("tea") == b"green"


@pytest.mark.parametrize("key", [None, 1, b"tea", ["tea"]])
def test_a_key_that_is_no_text_is_refused(store: NamespaceStore, key: Any) -> None:
    """The error says what a key has to be."""
    for call in (store.get, store.delete, lambda key: store.put(key, b"")):
        with pytest.raises(TypeError, match="a key has to be a str, not"):
            call(key)


@pytest.mark.parametrize(
    ("key", "problem"), [("", "is empty"), ("k" * 256, "256 bytes: 255 is the most"), ("\ud800", "as UTF-8")]
)
def test_a_key_that_cannot_be_kept_is_refused(store: NamespaceStore, key: str, problem: str) -> None:
    """An empty key, one that is too long and half of a character are refused by every call."""
    for call in (store.get, store.delete, lambda key: store.put(key, b"")):
        with pytest.raises(ValueError, match=problem):
            call(key)


@pytest.mark.parametrize("value", [None, "green", 5, [1, 2]])
def test_a_value_that_is_not_bytes_is_refused(store: NamespaceStore, value: Any) -> None:
    """Nothing is pickled or encoded behind somebody's back, and what was there stays."""
    store.put("tea", b"green")
    with pytest.raises(TypeError, match="encode it first"):
        store.put("tea", value)
    assert store.get("tea") == b"green"


def test_a_value_that_is_too_large_is_refused(tmp_path: Path) -> None:
    """The bound on one value holds for every kind of store, to the byte."""
    opened: tuple[Opened, ...] = (
        StoreFile(tmp_path / "store", max_value_bytes=123 * 8),
        ObjectBucket(MemoryStore(), max_value_bytes=123 * 8),
    )
    for one in opened:
        store = one.namespace("kettle")
        store.put("tea", b"x" * 123 * 8)
        with pytest.raises(ValueError, match="985 bytes: 984 is the most"):
            store.put("tea", b"x" * (123 * 8 + 1))
        assert store.get("tea") == b"x" * 123 * 8
        one.close()


@pytest.mark.parametrize(
    ("name", "problem"),
    [("", "is empty"), ("n" * 65, "65 bytes: 64 is the most"), ("\u00fc" * 33, "66 bytes"), ("\ud800", "as UTF-8")],
)
def test_a_namespace_without_a_proper_name_is_refused(opened: Opened, name: str, problem: str) -> None:
    """A name is text of 1 to 64 bytes; the error says what to do, and names of the full length are fine."""
    for call in (opened.namespace, opened.drop):
        with pytest.raises(ConfigurationError, match=f"the namespace .*{problem}.*Give another name") as caught:
            call(name)
        assert caught.value.step == "lease"
    opened.namespace("n" * 64).put("tea", b"green")
    assert opened.namespace("n" * 64).get("tea") == b"green"


def test_a_closed_handle_refuses_every_call(opened: Opened) -> None:
    """After a release nothing works any more, an iteration that had begun included; releasing twice is fine."""
    store = opened.namespace("kettle")
    store.put("tea", b"green")
    store.put("water", b"")
    running = store.keys()
    assert next(running) == "tea"
    store.release()
    store.close()
    calls: tuple[Callable[[], object], ...] = (
        lambda: store.get("tea"),
        lambda: store.put("tea", b""),
        lambda: store.delete("tea"),
        store.keys,
        store.statistics,
        lambda: next(running),
    )
    for call in calls:
        with pytest.raises(ContextClosed, match="'kettle' is closed"):
            call()
    assert opened.namespace("kettle").get("tea") == b"green"


def test_a_closed_store_refuses_its_handles(opened: Opened) -> None:
    """Closing what holds the bytes ends every handle, whoever still has one; closing twice is fine."""
    store = opened.namespace("kettle")
    store.put("tea", b"green")
    opened.close()
    opened.close()
    for call in (lambda: store.get("tea"), lambda: store.put("tea", b""), lambda: opened.namespace("kettle")):
        with pytest.raises(ContextClosed, match="is closed"):
            call()


def test_a_handle_counts_what_was_done_through_it(opened: Opened) -> None:
    """Puts, gets and deletes add up; calls that failed are not among the puts."""
    store = opened.namespace("kettle")
    store.put("tea", b"green")
    with pytest.raises(TypeError):
        store.put("tea", "green")  # type: ignore[arg-type]
    store.get("tea")
    store.get("water")
    store.delete("water")
    counted = store.statistics()
    assert (counted.puts, counted.gets, counted.deletes) == (1, 2, 1)
    assert opened.namespace("kettle").statistics().puts == 0


def test_eight_threads_lose_nothing(opener: Opener, tmp_path: Path) -> None:
    """Eight threads put, get and delete keys of their own and one that they share: each is whole at every moment."""
    opened = opener(tmp_path)
    store = opened.namespace("kettle")
    problems: list[str] = []

    def work(number: int) -> None:
        for step in range(12):
            value = bytes([number]) * (FILE_BYTES if step % 6 == 0 else 10 + step)
            store.put("shared", value)
            store.put(f"{number}-{step}", value)
            seen = store.get("shared")
            if seen is None or len(set(seen)) != 1 or store.get(f"{number}-{step}") != value:
                problems.append(f"{number}-{step}")
            if step % 2:
                store.delete(f"{number}-{step}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert list(store.keys()) == sorted(["shared", *(f"{one}-{step}" for one in range(8) for step in range(0, 12, 2))])
    assert store.statistics().puts == 8 * 12 * 2
    opened.close()


@given(key=st.text(min_size=1, max_size=60), other=st.text(min_size=1, max_size=60))
@settings(deadline=None, max_examples=60)
def test_a_key_in_object_storage_is_a_name_of_its_own(key: str, other: str) -> None:
    """Whatever text is a key, its object can be named, and two keys are two objects."""
    store = ObjectBucket(MemoryStore()).namespace("kettle")
    store.put(key, b"1")
    store.put(other, b"2")
    assert store.get(other) == b"2"
    assert list(store.keys()) == sorted({key, other})
    assert store.get(key) == (b"1" if key != other else b"2")


class Model(RuleBasedStateMachine):
    """A store beside a dictionary."""

    opener: Opener
    folder: Path
    rounds = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).rounds += 1
        folder = self.folder / str(type(self).rounds)
        folder.mkdir()
        self.opened = self.opener(folder)
        self.store = self.opened.namespace("kettle")
        self.known: dict[str, bytes] = {}

    @rule(key=st.sampled_from("abc/"), letter=st.binary(min_size=1, max_size=1), size=st.sampled_from(SIZES))
    def put(self, key: str, letter: bytes, size: int) -> None:
        self.store.put(key, letter * size)
        self.known[key] = letter * size

    @rule(key=st.sampled_from("abc/"))
    def delete(self, key: str) -> None:
        self.store.delete(key)
        self.known.pop(key, None)

    @rule()
    def drop(self) -> None:
        self.opened.drop("kettle")
        self.known.clear()

    @invariant()
    def holds_what_was_put(self) -> None:
        assert {key: self.store.get(key) for key in list(self.store.keys())} == self.known
        held = self.store.statistics()
        assert held.keys in (None, len(self.known))
        assert held.bytes in (None, sum(map(len, self.known.values())))

    def teardown(self) -> None:
        self.opened.close()


def test_a_store_is_a_dictionary(opener: Opener, tmp_path: Path) -> None:
    """Whatever is put, deleted and dropped in whatever order, the store holds what a dictionary would."""
    chosen = opener

    class ModelOfOne(Model):
        opener = staticmethod(chosen)
        folder = tmp_path

    run_state_machine_as_test(ModelOfOne, settings=settings(deadline=None, max_examples=12, stateful_step_count=12))
