"""The bounded cache: both bounds at every moment, the order of use, and the way out of every value."""

from __future__ import annotations

import gc
import logging
import pickle
import threading
import tracemalloc
import weakref
from collections import Counter, OrderedDict
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from weighbridge_hookspecs import Cache, ConfigurationError, ContextClosed

from weighbridge.leases.cache import BoundedCache, CacheStatistics

KEYS = st.sampled_from("abcdefg")
MAX_ITEMS, MAX_BYTES = 4, 100


class Thing:
    """A value that has weak references and is equal to nothing else."""


class AgainstAModel(RuleBasedStateMachine):
    """The cache beside a list in the order of use; every value is in the cache or was handed to on_evict, once."""

    def __init__(self) -> None:
        super().__init__()
        self.left: list[tuple[str, Thing]] = []
        self.cache = BoundedCache(MAX_ITEMS, MAX_BYTES, lambda key, value: self.left.append((key, value)))
        self.model: OrderedDict[str, tuple[Thing, int]] = OrderedDict()
        self.gone: list[tuple[str, Thing]] = []
        self.counts: Counter[str] = Counter()

    def pop_oldest(self) -> None:
        key, (value, _) = self.model.popitem(last=False)
        self.gone.append((key, value))
        self.counts["evictions"] += 1

    def weight(self) -> int:
        return sum(nbytes for _, nbytes in self.model.values())

    @rule(key=KEYS, nbytes=st.integers(0, 130))
    def put(self, key: str, nbytes: int) -> None:
        value = Thing()
        self.cache.put(key, value, nbytes=nbytes)
        self.counts["puts"] += 1
        if key in self.model:
            self.counts["replaced"] += 1
            self.gone.append((key, self.model.pop(key)[0]))
        if nbytes > MAX_BYTES:
            self.counts["rejected"] += 1
            self.gone.append((key, value))
            return
        self.model[key] = (value, nbytes)
        while len(self.model) > MAX_ITEMS or self.weight() > MAX_BYTES:
            self.pop_oldest()

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        missing = Thing()
        found = self.cache.get(key, missing)
        if key in self.model:
            assert found is self.model[key][0]
            self.model.move_to_end(key)
            self.counts["hits"] += 1
        else:
            assert found is missing
            self.counts["misses"] += 1

    @rule(key=KEYS, nbytes=st.integers(0, 130))
    def weigh_again(self, key: str, nbytes: int) -> None:
        """A value that is put again in its own place does not leave, unless it has become too heavy."""
        if key not in self.model:
            return
        value = self.model.pop(key)[0]
        self.cache.put(key, value, nbytes=nbytes)
        self.counts.update(puts=1, replaced=1)
        if nbytes > MAX_BYTES:
            self.counts["rejected"] += 1
            self.gone.append((key, value))
            return
        self.model[key] = (value, nbytes)
        while self.weight() > MAX_BYTES:
            self.pop_oldest()

    @rule(key=KEYS)
    def discard(self, key: str) -> None:
        assert self.cache.discard(key) == (key in self.model)
        if key in self.model:
            self.gone.append((key, self.model.pop(key)[0]))
            self.counts["removed"] += 1

    @rule(nbytes=st.integers(-5, 150))
    def trim(self, nbytes: int) -> None:
        before = self.weight()
        freed = self.cache.trim(nbytes)
        while self.model and before - self.weight() < nbytes:
            self.pop_oldest()
        assert freed == before - self.weight()

    @rule()
    def clear(self) -> None:
        self.cache.clear()
        self.counts["removed"] += len(self.model)
        self.gone.extend((key, value) for key, (value, _) in self.model.items())
        self.model.clear()

    @invariant()
    def agrees(self) -> None:
        assert self.left == self.gone
        assert len(self.cache) == len(self.model)
        drawn = self.cache.statistics()
        assert drawn == CacheStatistics(
            items=len(self.model),
            bytes=self.weight(),
            max_items=MAX_ITEMS,
            max_bytes=MAX_BYTES,
            failures=0,
            **{name: self.counts[name] for name in ("hits", "misses", "puts", "evictions", "rejected")},
            **{name: self.counts[name] for name in ("replaced", "removed")},
        )
        assert drawn.puts == drawn.items + drawn.evictions + drawn.rejected + drawn.replaced + drawn.removed


def test_cache_does_what_the_model_does() -> None:
    """Whatever is called in whatever order, both hold the same, tell of the same, and count the same."""
    run_state_machine_as_test(AgainstAModel, settings=settings(max_examples=60, stateful_step_count=40, deadline=None))


def test_cache_is_what_the_contract_calls_one() -> None:
    """A plugin that was written against the protocol gets along with this cache; a type checker reads this line."""
    cache: Cache = BoundedCache(1, 1)
    cache.put("key", "value", nbytes=1)
    assert cache.get("key") == "value"


class Counted:
    """A key that counts what it is asked, in a table of the test."""

    def __init__(self, name: str, asked: Counter[str]) -> None:
        self.name = name
        self.asked = asked

    def __hash__(self) -> int:
        self.asked["hash"] += 1
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        self.asked["eq"] += 1
        return isinstance(other, Counted) and self.name == other.name


def test_key_is_asked_no_more_than_by_a_dict() -> None:
    """Keys may be slow to hash and to compare, so a get and a put cost what they cost in a dict."""
    asked: Counter[str] = Counter()
    cache, peer = BoundedCache(2, 100), dict[Any, Any]()

    def costs(call: Any) -> Counter[str]:
        asked.clear()
        call()
        return Counter(asked)

    def key(name: str) -> Counted:
        return Counted(name, asked)

    for name in ("a", "b", "a"):  # new, new, replaced
        ours = costs(lambda name=name: cache.put(key(name), 1, nbytes=1))
        assert ours == costs(lambda name=name: peer.__setitem__(key(name), 1))
    for name in ("a", "b", "z"):  # there, there, missing
        ours = costs(lambda name=name: cache.get(key(name)))
        assert ours == costs(lambda name=name: peer.get(key(name)))

    def make_room() -> None:
        del peer[oldest]
        peer[key("c")] = 1

    oldest = next(iter(peer))
    assert costs(lambda: cache.put(key("c"), 1, nbytes=1)) == costs(make_room)


def test_on_evict_is_called_outside_of_the_lock() -> None:
    """Another thread gets at the cache meanwhile, and so does the callback itself."""
    seen: list[Any] = []

    def look(key: str, value: str) -> None:
        other = threading.Thread(target=lambda: seen.append(cache.get("b")), daemon=True)
        other.start()
        other.join(20)
        seen.append((key, value, len(cache), cache.discard("c")))

    cache = BoundedCache(2, 100, look)
    cache.put("a", "A", nbytes=1)
    cache.put("b", "B", nbytes=1)
    cache.put("d", "D", nbytes=1)
    assert seen == ["B", ("a", "A", 2, False)]


def test_on_evict_that_raises_is_logged_as_text(caplog: pytest.LogCaptureFixture) -> None:
    """The others are told all the same, the failure is counted, and no exception object is kept."""
    told: list[int] = []

    def fail(key: int, value: object) -> None:
        told.append(key)
        raise SystemExit("stuck") if key else ValueError("stuck")

    cache = BoundedCache(10, 100, fail)
    for number in range(3):
        cache.put(number, number, nbytes=1)
    cache.clear()
    assert told == [0, 1, 2]
    assert cache.statistics().failures == 3
    assert [record.getMessage().splitlines()[-1] for record in caplog.records] == [
        "ValueError: stuck",
        "SystemExit: stuck",
        "SystemExit: stuck",
    ]
    assert {(record.name, record.levelno, record.exc_info) for record in caplog.records} == {
        ("weighbridge.cache", logging.ERROR, None)
    }


def test_interrupted_clear_tells_the_rest_first() -> None:
    """Ctrl-C in the middle of the callbacks loses none: all are told, in order, and then it goes on its way."""
    told: list[int] = []

    def interrupt(key: int, value: object) -> None:
        told.append(key)
        if key in (1, 2):
            raise KeyboardInterrupt

    cache = BoundedCache(10, 100, interrupt)
    for number in range(5):
        cache.put(number, number, nbytes=1)
    with pytest.raises(KeyboardInterrupt):
        cache.clear()
    assert told == [0, 1, 2, 3, 4]
    assert len(cache) == 0


def test_closed_cache_holds_nothing_and_says_so() -> None:
    """Closing gives every value and the callback back; what is asked of it later is an error that can be pickled."""
    told: list[str] = []
    holder, value = Thing(), Thing()

    def on_evict(key: str, value: object, holder: Thing = holder) -> None:
        told.append(key)

    dead: list[weakref.ref[Any]] = [weakref.ref(holder), weakref.ref(value), weakref.ref(on_evict)]
    cache = BoundedCache(10, 100, on_evict)
    cache.put("a", value, nbytes=1)
    cache.close()
    cache.close()
    del holder, value, on_evict
    assert told == ["a"]
    assert [ref() for ref in dead] == [None, None, None]
    with pytest.raises(ContextClosed, match="the cache is closed"):
        cache.put("a", 1, nbytes=1)
    with pytest.raises(ContextClosed) as caught:
        cache.get("a")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    assert (cache.discard("a"), cache.trim(10), cache.statistics().items) == (False, 0, 0)


@pytest.mark.parametrize("bound", [0, -1, 1.0, True, None, "64 MiB"])
def test_bound_has_to_be_a_whole_number(bound: Any) -> None:
    """A bound that bounds nothing is refused, and the text names it and says what to give."""
    for name, arguments in (("max_items", (bound, 1)), ("max_bytes", (1, bound))):
        with pytest.raises(ConfigurationError) as caught:
            BoundedCache(*arguments)
        assert str(caught.value) == f"{name} is {bound!r}. Give a whole number from 1 up"


def test_on_evict_has_to_be_callable() -> None:
    """A callback that is none is an error at once, not at the first eviction."""
    callback: Any = "print"
    with pytest.raises(ConfigurationError, match=r"on_evict is a str\. Give a function"):
        BoundedCache(1, 1, callback)


@pytest.mark.parametrize("nbytes", [-1, 1.5, None, True, "8"])
def test_bad_weight_changes_nothing(nbytes: Any) -> None:
    """A weight that is none is refused before anything was moved."""
    cache = BoundedCache(10, 100)
    cache.put("a", "old", nbytes=8)
    before = cache.statistics()
    with pytest.raises(ValueError, match="give the number of bytes from 0 up"):
        cache.put("a", "new", nbytes=nbytes)
    assert cache.statistics() == before
    assert cache.get("a") == "old"


@pytest.mark.parametrize("nbytes", [1, 1000])
def test_key_that_cannot_be_hashed_changes_nothing(nbytes: int) -> None:
    """What a key raises reaches the caller, the books are as before, and nobody is told of a value that never came."""
    told: list[Any] = []
    cache = BoundedCache(10, 100, lambda *entry: told.append(entry))
    cache.put("a", "kept", nbytes=8)
    before = cache.statistics()
    with pytest.raises(TypeError, match="unhashable"):
        cache.put([], "lost", nbytes=nbytes)
    assert cache.statistics() == before
    assert told == []


class Shifty:
    """A key whose hash changes after it was put."""

    code = 1

    def __hash__(self) -> int:
        if self.code < 0:
            raise RuntimeError("no hash any more")
        return self.code


@pytest.mark.parametrize("code", [2, -1], ids=["changed", "raising"])
def test_key_that_changes_its_hash_does_not_break_the_bounds(code: int) -> None:
    """No table finds such a key again; the cache lets go of everything rather than hold more than it may."""
    told: list[Any] = []
    cache, key = BoundedCache(2, 100, lambda key, value: told.append(value)), Shifty()
    cache.put(key, "shifty", nbytes=10)
    cache.put("b", "steady", nbytes=10)
    key.code = code
    cache.put("c", "new", nbytes=10)
    assert told == ["shifty", "steady", "new"]
    assert (cache.statistics().items, cache.statistics().bytes) == (0, 0)
    cache.put("d", "next", nbytes=10)
    assert cache.get("d") == "next"


def test_key_may_use_the_cache_while_it_is_compared() -> None:
    """A key's methods run under the lock; the thread that holds it may come in again, and nothing hangs."""

    class Nosy(str):
        def __eq__(self, other: object) -> bool:
            cache.put("nosy", 1, nbytes=1)
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    cache = BoundedCache(2, 100)
    cache.put(Nosy("a"), 1, nbytes=1)
    worker = threading.Thread(target=cache.put, args=(Nosy("a"), 2), kwargs={"nbytes": 1}, daemon=True)
    worker.start()
    worker.join(20)
    assert not worker.is_alive()
    assert cache.get("nosy") == 1
    assert cache.statistics().items <= 2


@pytest.mark.usefixtures("_busy_switching")
def test_eight_threads_lose_no_value() -> None:
    """Under eight threads the bounds hold at every look, and each value is in the cache or was told of, once."""
    told: list[int] = []
    cache, start = BoundedCache(50, 1000, lambda key, value: told.append(value)), threading.Barrier(8)
    looks: list[CacheStatistics] = []

    def work(number: int) -> None:
        start.wait()
        for step in range(1000):
            cache.put((number * 7 + step) % 80, number * 1000 + step, nbytes=step % 60)
            cache.get(step % 80)
            if step % 50 == 0:
                looks.append(cache.statistics())
            if step % 97 == 0:
                cache.trim(200)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    drawn = cache.statistics()
    assert all(look.items <= 50 and look.bytes <= 1000 for look in looks)
    assert drawn.hits + drawn.misses == drawn.puts == 8000
    assert drawn.puts == drawn.items + drawn.evictions + drawn.rejected + drawn.replaced + drawn.removed
    cache.close()
    assert sorted(told) == list(range(8000))


def test_thousand_caches_leave_nothing() -> None:
    """Round after round of a thousand caches that were filled and closed, memory stays where it was."""

    def round_of_use() -> None:
        caches = [BoundedCache(8, 1000, lambda key, value: None) for _ in range(1000)]
        for cache in caches:
            for number in range(10):
                cache.put(number, bytearray(64), nbytes=64)
        for cache in caches:
            cache.close()
        caches.clear()
        gc.collect()

    tracemalloc.start()
    try:
        round_of_use()
        round_of_use()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(3):
            round_of_use()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 1000 * 8, "less than 8 bytes for each cache of one round"


def test_example_of_the_page() -> None:
    """The example on the page of the service."""
    # snippet: cache
    closed = []
    cache = BoundedCache(max_items=100, max_bytes=64 * 1024, on_evict=lambda name, page: closed.append(name))
    cache.put("first", b"a" * 40_000, nbytes=40_000)
    cache.put("second", b"b" * 20_000, nbytes=20_000)
    assert cache.get("first") is not None  # used last, so "second" goes first
    cache.put("third", b"c" * 20_000, nbytes=20_000)
    assert closed == ["second"]
    assert cache.statistics().bytes == 60_000
    # end snippet
    cache.close()
    assert closed == ["second", "first", "third"]
