"""The pool of warm instances, with instances that are none."""

from __future__ import annotations

import gc
import itertools
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule
from weighbridge_hookspecs import ConfigurationError

from weighbridge_wasm.pool import PoolStatistics, WarmPool

KEYS = ("ant", "bee", "cat")


class Fake:
    """An instance that knows what was done to it, and by how many at once."""

    def __init__(self, nbytes: int = 0, *, resets: bool = True) -> None:
        self.nbytes = nbytes
        self.resets = resets
        self.measured = 0
        self.closed = 0
        self.used = 0
        self.users = threading.Lock()

    def reset(self) -> bool:
        with self.alone():
            return self.resets

    def resident_bytes(self) -> int:
        with self.alone():
            self.measured += 1
            return self.nbytes

    def close(self) -> None:
        with self.alone():
            self.closed += 1

    def call(self) -> None:
        with self.alone():
            self.used += 1

    def alone(self) -> Any:
        assert not self.closed, "it was closed before"
        assert self.users.acquire(blocking=False), "somebody else is at it"
        self.users.release()
        return self.users


class NeverReset(Fake):
    """An instance that nobody should take the trouble to reset."""

    def reset(self) -> bool:
        raise AssertionError("a reset nobody asked for")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def fill(pool: WarmPool[Fake], key: str, *sizes: int) -> list[Fake]:
    """Idle instances of these sizes, the last one used last."""
    items = [pool.adopt(key, Fake(nbytes)) for nbytes in sizes]
    for item in items:
        pool.release(item)
    return items


def use(pool: WarmPool[Fake], key: str, at_once: int = 1) -> list[Fake]:
    """Take so many at once, made where there are none, and give them back."""
    items = [pool.acquire(key) or pool.adopt(key, Fake()) for _ in range(at_once)]
    for item in items:
        item.call()
    for item in items:
        pool.release(item)
    return items


def closed(pool: WarmPool[Fake]) -> dict[str, int]:
    return {reason: count for reason, count in pool.statistics().closed.items() if count}


def check_sums(found: PoolStatistics) -> None:
    assert found.made == found.idle + found.in_use + sum(found.closed.values())
    assert found.idle == sum(module.idle for module in found.modules.values())
    assert found.in_use >= sum(module.in_use for module in found.modules.values())


# --- one instance -----------------------------------------------------------------------------------------------------


def test_instance_that_was_used_last_goes_out_first() -> None:
    """Its pages are the ones that are in the caches."""
    pool: WarmPool[Fake] = WarmPool()
    first, second, third = fill(pool, "ant", 1, 2, 3)
    assert pool.acquire("ant") is third
    assert pool.acquire("ant") is second
    pool.release(third)
    assert pool.acquire("ant") is third
    assert pool.acquire("ant") is first


def test_module_never_gets_the_instance_of_another() -> None:
    """What is idle of one module is none of another's."""
    pool: WarmPool[Fake] = WarmPool()
    (item,) = fill(pool, "ant", 1)
    assert pool.acquire("bee") is None
    assert pool.acquire("ant") is item
    assert pool.acquire("ant") is None
    found = pool.statistics()
    assert (found.made, found.reused, found.missed, found.returned) == (1, 1, 2, 1)


def test_instance_that_cannot_be_reset_is_closed() -> None:
    """It is not lent again, and not counted as idle."""
    pool: WarmPool[Fake] = WarmPool()
    item = pool.adopt("ant", Fake(resets=False))
    assert not pool.release(item)
    assert item.closed == 1
    assert pool.acquire("ant") is None
    assert closed(pool) == {"failed_reset": 1}


def test_reset_that_raises_closes_its_instance_and_is_told() -> None:
    """The error reaches whoever released it, and the places are right afterwards."""

    class Broken(Fake):
        def reset(self) -> bool:
            raise OSError("no such page")

    pool: WarmPool[Fake] = WarmPool()
    item = pool.adopt("ant", Broken())
    with pytest.raises(OSError, match="no such page"):
        pool.release(item)
    assert item.closed == 1
    check_sums(pool.statistics())
    assert pool.statistics().in_use == 0


def test_spoiled_instance_is_closed_without_a_reset() -> None:
    """What trapped is not made pristine: it is gone."""

    pool: WarmPool[Fake] = WarmPool()
    trapped, unwanted = (pool.adopt("ant", NeverReset()) for _ in range(2))
    pool.drop(trapped, "spoiled")
    pool.drop(unwanted)
    assert (trapped.closed, unwanted.closed) == (1, 1)
    assert closed(pool) == {"spoiled": 1, "dropped": 1}


def test_instance_is_released_once() -> None:
    """A second release would lend one instance to two threads at once: it is refused before anything is done."""
    pool: WarmPool[Fake] = WarmPool()
    item = pool.adopt("ant", Fake())
    with pytest.raises(ValueError, match="lent already"):
        pool.adopt("ant", item)
    pool.release(item)
    item.resets = False
    for again in (pool.release, pool.drop):
        with pytest.raises(ValueError, match="not lent"):
            again(item)
    assert item.closed == 0
    assert pool.statistics().idle == 1


def test_instance_of_a_discarded_module_never_comes_back_under_its_name() -> None:
    """A name that is registered anew may stand for other code."""
    pool: WarmPool[Fake] = WarmPool()
    (idle,) = fill(pool, "ant", 1)
    old = pool.adopt("ant", NeverReset())
    assert pool.discard("ant") == 1
    new = pool.adopt("ant", Fake())
    assert not pool.release(old)
    assert pool.release(new)
    assert pool.acquire("ant") is new
    assert pool.acquire("ant") is None
    assert (idle.closed, old.closed, new.closed) == (1, 1, 0)
    assert closed(pool) == {"discarded": 2}
    assert pool.discard("nobody") == 0


def test_closed_pool_keeps_nothing() -> None:
    """What is idle goes at once, what is lent when it comes back, and closing twice does nothing."""
    pool: WarmPool[Fake] = WarmPool()
    (idle,) = fill(pool, "ant", 1)
    lent = pool.adopt("ant", Fake())
    pool.close()
    pool.close()
    assert (idle.closed, lent.closed) == (1, 0)
    late = pool.adopt("bee", Fake())
    assert not pool.release(lent)
    assert not pool.release(late)
    assert pool.acquire("bee") is None
    assert closed(pool) == {"closed": 3}
    assert pool.statistics().modules == {}


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_module_keeps_no_more_than_its_places() -> None:
    """One more that comes back is closed; others in use do not count."""
    pool: WarmPool[Fake] = WarmPool(max_per_module=2)
    items = [pool.adopt("ant", Fake()) for _ in range(4)]
    assert [pool.release(item) for item in items] == [True, True, False, False]
    assert closed(pool) == {"full": 2}


def test_ten_of_a_module_are_kept_by_default() -> None:
    """Whatever its peak was."""
    pool: WarmPool[Fake] = WarmPool()
    use(pool, "ant", at_once=13)
    assert pool.statistics().idle == 10


def test_module_can_have_places_of_its_own() -> None:
    """They hold at once and until it is discarded, also through a decay that leaves nothing of it."""
    pool: WarmPool[Fake] = WarmPool(max_per_module=3)
    fill(pool, "ant", 1, 1, 1)
    fill(pool, "bee", 1, 1, 1)
    assert pool.resize_module("ant", 1) == 2
    for _ in range(3):
        pool.decay()
    use(pool, "ant", at_once=3)
    assert pool.statistics().modules["ant"].idle == 1
    pool.resize_module("ant", 5)
    use(pool, "ant", at_once=6)
    assert pool.statistics().modules["ant"].idle == 5
    assert pool.resize_module("ant", None) == 2
    pool.resize_module("bee", 0)
    use(pool, "bee")
    assert pool.statistics().modules["bee"].idle == 0


def test_too_many_in_all_cost_the_module_used_least_recently() -> None:
    """And of its instances the coldest."""
    pool: WarmPool[Fake] = WarmPool(max_items=4)
    cold, warm = fill(pool, "ant", 1, 1)
    fill(pool, "bee", 1, 1)
    use(pool, "cat")
    assert (cold.closed, warm.closed) == (1, 0)
    use(pool, "ant")
    (other,) = fill(pool, "dog", 1)
    assert (warm.closed, other.closed) == (0, 0)
    assert {key: module.idle for key, module in pool.statistics().modules.items() if module.idle} == {
        "bee": 1,
        "cat": 1,
        "ant": 1,
        "dog": 1,
    }
    assert closed(pool) == {"evicted": 2}


def test_module_that_is_used_stays_longer() -> None:
    """A use counts when it begins and when it ends, also where more of the module is idle."""
    pool: WarmPool[Fake] = WarmPool()
    ants, bees = fill(pool, "ant", 1, 1), fill(pool, "bee", 1, 1)
    use(pool, "ant")
    pool.resize(max_items=3)
    assert [item.closed for item in ants + bees] == [0, 0, 1, 0]
    assert list(pool.statistics().modules) == ["bee", "ant"]


def test_too_many_bytes_cost_the_module_used_least_recently() -> None:
    """As many instances go as it takes."""
    pool: WarmPool[Fake] = WarmPool(max_bytes=300)
    first, second = fill(pool, "ant", 100, 100)
    fill(pool, "bee", 100)
    fill(pool, "cat", 150)
    assert (first.closed, second.closed) == (1, 1)
    assert pool.statistics().idle_bytes == 250
    assert closed(pool) == {"over_bytes": 2}


def test_instance_that_is_too_big_by_itself_drives_nobody_out() -> None:
    """It is closed, and the others stay warm."""
    pool: WarmPool[Fake] = WarmPool(max_bytes=300)
    (other,) = fill(pool, "ant", 100)
    (big,) = fill(pool, "bee", 301)
    assert (other.closed, big.closed) == (0, 1)
    assert closed(pool) == {"over_bytes": 1}


def test_pool_without_places_closes_everything() -> None:
    """Then every call has a fresh instance."""
    pools: list[WarmPool[Fake]] = [WarmPool(max_items=0), WarmPool(max_per_module=0)]
    for pool in pools:
        item = pool.adopt("ant", Fake(1))
        assert not pool.release(item)
        assert item.closed == 1
        assert pool.acquire("ant") is None


def test_bounds_change_while_the_pool_is_in_use() -> None:
    """What is beyond the new ones is closed at once, the coldest first; what is lent stays lent."""
    pool: WarmPool[Fake] = WarmPool()
    ants = fill(pool, "ant", 10, 10, 10)
    bees = fill(pool, "bee", 10, 10, 10)
    lent = pool.adopt("cat", Fake(10))
    assert pool.resize(max_per_module=2) == 2
    assert [item.closed for item in ants + bees] == [1, 0, 0, 1, 0, 0]
    assert pool.resize(max_items=3) == 1
    assert pool.resize(max_bytes=10) == 2
    assert [item.closed for item in ants + bees] == [1, 1, 1, 1, 1, 0]
    assert lent.closed == 0
    assert pool.resize() == 0
    assert closed(pool) == {"full": 2, "evicted": 1, "over_bytes": 2}


@pytest.mark.parametrize(
    "bounds",
    [{"max_per_module": -1}, {"max_items": 1.5}, {"max_bytes": True}, {"windows": 0}, {"max_items": "7"}],
)
def test_bounds_that_make_no_sense_are_refused(bounds: dict[str, Any]) -> None:
    """By the constructor and by a change, which leaves everything as it was."""
    with pytest.raises(ConfigurationError, match=next(iter(bounds))):
        WarmPool(**bounds)
    if "windows" not in bounds:
        pool: WarmPool[Fake] = WarmPool()
        fill(pool, "ant", 1, 1)
        with pytest.raises(ConfigurationError):
            pool.resize(**{"max_per_module": 0, "max_items": 0, **bounds})
        assert pool.statistics().idle == 2


# --- decay ------------------------------------------------------------------------------------------------------------


def test_spike_is_forgotten_while_calls_go_on() -> None:
    """Steady calls one at a time keep one instance, however many the spike has left."""
    pool: WarmPool[Fake] = WarmPool(windows=2)
    use(pool, "ant", at_once=8)
    idle = []
    for _ in range(4):
        pool.decay()
        idle.append(pool.statistics().idle)
        for _ in range(8):
            use(pool, "ant")
    assert idle == [8, 8, 1, 1]
    assert closed(pool) == {"decayed": 7}


def test_peak_of_the_last_windows_is_kept() -> None:
    """Not one less, and those in use count among them."""
    pool: WarmPool[Fake] = WarmPool(windows=3)
    use(pool, "ant", at_once=5)
    pool.decay()
    lent = [pool.acquire("ant") for _ in range(2)]
    pool.decay()
    assert pool.statistics().modules["ant"].peak == 5
    assert pool.statistics().idle == 3
    pool.decay()
    assert pool.statistics().idle == 3
    assert pool.decay() == 3
    assert pool.statistics().modules["ant"].peak == 2
    assert None not in lent


def test_module_that_nobody_uses_is_let_go_of() -> None:
    """After its windows nothing is left of it, not even its name."""
    pool: WarmPool[Fake] = WarmPool(windows=2)
    (item,) = use(pool, "ant")
    assert [pool.decay() for _ in range(3)] == [0, 0, 1]
    assert item.closed == 1
    assert pool.statistics().modules == {}


def test_long_call_keeps_its_place_in_the_peak() -> None:
    """An instance that is in use through whole windows is part of their peaks."""
    pool: WarmPool[Fake] = WarmPool(windows=1)
    item = pool.adopt("ant", Fake())
    for _ in range(4):
        assert pool.decay() == 0
    assert pool.statistics().modules["ant"].peak == 1
    pool.release(item)
    assert pool.decay() == 0
    assert pool.decay() == 1


# --- bytes ------------------------------------------------------------------------------------------------------------


def test_figures_are_measured_when_they_are_a_second_old() -> None:
    """Not at every release, for a measurement takes longer than all the rest."""
    clock = Clock()
    pool: WarmPool[Fake] = WarmPool(clock=clock)
    (item,) = fill(pool, "ant", 100)
    for now, nbytes, figure in ((0.5, 200, 100), (1.0, 300, 300), (1.9, 400, 300), (2.0, 500, 500)):
        clock.now, item.nbytes = now, nbytes
        use(pool, "ant")
        assert pool.statistics().idle_bytes == figure
    assert item.measured == 3


def test_decay_measures_what_was_used() -> None:
    """And nothing else: what nobody used is as it was."""
    pool: WarmPool[Fake] = WarmPool(clock=Clock())
    cold, warm = fill(pool, "ant", 100, 100)
    use(pool, "ant")
    warm.nbytes = 700
    pool.decay()
    assert (cold.measured, warm.measured) == (1, 2)
    assert pool.statistics().idle_bytes == 800
    assert pool.acquire("ant") is warm


def test_bytes_found_by_decay_are_held_to_the_bound() -> None:
    """An instance that has grown unnoticed costs the pool its coldest ones."""
    pool: WarmPool[Fake] = WarmPool(max_bytes=500, clock=Clock())
    (cold,) = fill(pool, "ant", 200)
    (warm,) = fill(pool, "bee", 200)
    use(pool, "bee")
    warm.nbytes = 400
    assert pool.decay() == 1
    assert (cold.closed, warm.closed) == (1, 0)


def test_instance_found_too_big_by_decay_goes_alone() -> None:
    """It is the one that is closed, and counted."""
    pool: WarmPool[Fake] = WarmPool(max_bytes=500, clock=Clock())
    (other,) = fill(pool, "ant", 200)
    (big,) = fill(pool, "bee", 200)
    use(pool, "bee")
    big.nbytes = 501
    assert pool.decay() == 1
    assert (other.closed, big.closed) == (0, 1)
    assert closed(pool) == {"over_bytes": 1}


def test_instances_in_use_count_with_their_last_figure() -> None:
    """The module is charged for them; the bound is for idle ones alone."""
    pool: WarmPool[Fake] = WarmPool()
    fill(pool, "ant", 100, 300)
    pool.acquire("ant")
    pool.adopt("ant", Fake(1000))
    assert pool.statistics().modules["ant"].resident_bytes == 400
    assert pool.statistics().idle_bytes == 100


def test_trim_frees_what_was_wanted_and_says_how_much() -> None:
    """Least recently used modules first, by what they really occupied."""
    pool: WarmPool[Fake] = WarmPool()
    ants = fill(pool, "ant", 100, 100)
    bees = fill(pool, "bee", 100)
    ants[0].nbytes = 150
    assert pool.trim(0) == 0
    assert pool.trim(151) == 250
    assert [item.closed for item in ants + bees] == [1, 1, 0]
    lent = pool.acquire("bee")
    assert pool.trim(1) == 0
    assert closed(pool) == {"trimmed": 2}
    assert lent is bees[0]


def test_instance_that_cannot_be_measured_keeps_its_figure() -> None:
    """The failure is counted, and its text kept."""

    class Opaque(Fake):
        def resident_bytes(self) -> int:
            if self.used:
                raise OSError("pagemap is closed")
            return super().resident_bytes()

    clock = Clock()
    pool: WarmPool[Fake] = WarmPool(clock=clock)
    item = pool.adopt("ant", Opaque(123))
    pool.release(item)
    clock.now = 5.0
    use(pool, "ant")
    pool.decay()
    found = pool.statistics()
    assert (found.idle, found.idle_bytes, found.failures) == (1, 123, 1)
    assert "pagemap is closed" in (found.last_failure or "")


def test_close_that_fails_stops_no_other() -> None:
    """Each is closed, the failure is counted, and nobody who called is told."""

    class Stuck(Fake):
        def close(self) -> None:
            super().close()
            raise OSError("will not go")

    pool: WarmPool[Fake] = WarmPool()
    items: list[Fake] = [Stuck(), Fake(), Stuck()]
    for item in items:
        pool.adopt("ant", item)
    for item in items:
        pool.release(item)
    pool.close()
    assert [item.closed for item in items] == [1, 1, 1]
    assert pool.statistics().failures == 2


# --- threads, finalizers, rings ---------------------------------------------------------------------------------------


class Meeting(Fake):
    """An instance whose every method waits until another thread has been through the pool."""

    def __init__(self, visit: Callable[[], object]) -> None:
        super().__init__()
        self.visit = visit

    def elsewhere(self) -> None:
        visitor = threading.Thread(target=self.visit)
        visitor.start()
        visitor.join(timeout=30)
        assert not visitor.is_alive(), "the pool is locked"

    def reset(self) -> bool:
        self.elsewhere()
        return super().reset()

    def resident_bytes(self) -> int:
        self.elsewhere()
        return super().resident_bytes()

    def close(self) -> None:
        self.elsewhere()
        super().close()


def test_nothing_of_an_instance_runs_under_the_lock() -> None:
    """While one is reset, measured or closed, others use the pool."""
    clock = Clock()
    pool: WarmPool[Fake] = WarmPool(clock=clock)
    visits = iter(range(100))

    def visit() -> None:
        use(pool, "bee")
        next(visits)

    item = pool.adopt("ant", Meeting(visit))
    pool.release(item)
    clock.now = 9.0
    for step in (lambda: use(pool, "ant"), pool.decay, lambda: pool.trim(1), pool.close):
        step()
    assert item.closed == 1
    assert next(visits) == 6  # two resets, two measurements, one more before it is trimmed, and one close


def test_idle_instance_is_not_lent_while_it_is_measured() -> None:
    """Whoever asks meanwhile gets none; it counts as idle all the same, and closes if its module goes."""
    pool: WarmPool[Fake] = WarmPool(clock=Clock())
    seen: list[tuple[object, int]] = []
    item = Meeting(lambda: None)
    pool.adopt("ant", item)
    pool.release(item)
    use(pool, "ant")

    def visit() -> None:
        if not seen:
            seen.append((pool.acquire("ant"), pool.statistics().modules["ant"].idle))
            pool.discard("ant")

    item.visit = visit
    pool.decay()
    assert seen == [(None, 1)]
    assert item.closed == 1
    check_sums(pool.statistics())


def test_instance_that_is_lent_before_its_turn_is_not_measured() -> None:
    """It will be when it comes back, or next time."""
    pool: WarmPool[Fake] = WarmPool(clock=Clock())
    first, second = Meeting(lambda: None), Fake()
    for _ in range(2):
        for item in (first, second):
            if pool.acquire("ant") is None:
                pool.adopt("ant", item)
        pool.release(first)
        pool.release(second)
    lent: list[Fake | None] = []
    first.visit = lambda: lent.append(pool.acquire("ant"))
    pool.decay()
    assert lent == [second]
    assert (first.measured, second.measured) == (2, 1)
    first.visit = lambda: None
    pool.release(second)
    pool.decay()
    assert second.measured == 2


def test_new_module_of_the_same_name_is_kept_while_the_old_one_is_measured() -> None:
    """The end of the old one takes nothing off the new one's shelf."""
    pool: WarmPool[Fake] = WarmPool(clock=Clock())
    item = Meeting(lambda: None)
    pool.adopt("ant", item)
    pool.release(item)
    use(pool, "ant")
    new: list[Fake] = []

    def visit() -> None:
        if not new:
            pool.discard("ant")
            new.extend(fill(pool, "ant", 50))

    item.visit = visit
    pool.decay()
    assert item.closed == 1
    assert pool.statistics().idle_bytes == 50
    assert pool.acquire("ant") is new[0]


def test_finalizer_may_use_the_pool_at_any_moment() -> None:
    """One that runs within the pool's own steps comes in again, and the sums are right."""
    pool: WarmPool[Fake] = WarmPool(max_items=2)

    class Reentrant(Fake):
        def close(self) -> None:
            super().close()
            use(pool, "bee")

    for _ in range(5):
        item = pool.adopt("ant", Reentrant())
        pool.release(item)
    pool.discard("ant")
    check_sums(pool.statistics())
    assert pool.statistics().in_use == 0
    with pool._lock:
        use(pool, "cat")  # as a finalizer of this thread would, in the middle of a step
    check_sums(pool.statistics())


def test_collector_may_come_in_at_any_step() -> None:
    """What it wakes uses the pool in the middle of its steps, and still the sums are right and nothing is lost."""
    pool: WarmPool[Fake] = WarmPool(max_per_module=2, max_items=4, max_bytes=900, windows=1)
    made: list[Fake] = []
    steps = itertools.count()

    def step() -> None:
        key = KEYS[next(steps) % len(KEYS)]
        item = pool.acquire(key)
        if item is None:
            item = pool.adopt(key, Fake(100))
            made.append(item)
        item.call()
        others = (pool.decay, lambda: pool.trim(100), lambda: pool.discard(key), lambda: use_two(key), pool.statistics)
        others[next(steps) % len(others)]()
        pool.release(item)

    def use_two(key: str) -> None:
        items = [pool.adopt(key, Fake(50)) for _ in range(2)]
        made.extend(items)
        for item in items:
            pool.release(item)

    inside: list[bool] = []

    def wake(phase: str, _: object) -> None:
        if phase == "stop" and not inside:
            inside.append(True)
            step()
            inside.pop()

    thresholds = gc.get_threshold()
    gc.callbacks.append(wake)
    gc.set_threshold(1, 1000, 1000)
    try:
        for _ in range(300):
            step()
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(wake)
    found = pool.statistics()
    check_sums(found)
    assert (found.in_use, found.failures) == (0, 0)
    assert next(steps) > 4 * 300, "the collector has hardly come in"
    pool.close()
    assert [item.closed for item in made] == [1] * len(made)


def test_threads_share_a_pool() -> None:
    """No instance is in two hands, none is lost, and each is closed once."""
    pool: WarmPool[Fake] = WarmPool(max_per_module=3, max_items=5, max_bytes=900, windows=1)
    made: list[Fake] = []
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(400):
                key = KEYS[(turn * number) % len(KEYS)]
                item = pool.acquire(key)
                if item is None:
                    item = pool.adopt(key, Fake(100 + turn))
                    made.append(item)
                item.call()
                if turn % 17 == number:
                    pool.drop(item, "spoiled")
                else:
                    item.resets = turn % 23 != number
                    pool.release(item)
                if turn % 50 == number:
                    (pool.decay, lambda: pool.trim(150), lambda key=key: pool.discard(key))[turn // 50 % 3]()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns at nearly every step
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert failures == []
    found = pool.statistics()
    check_sums(found)
    assert found.in_use == 0
    assert found.idle <= 5
    assert found.made == len(made)
    pool.close()
    assert [item.closed for item in made] == [1] * len(made)


def test_pool_leaves_no_rings() -> None:
    """What was used and dropped without a close goes without the collector."""

    def count() -> int:
        return sum(isinstance(each, Fake) for each in gc.get_objects())

    gc.collect()
    before = count()
    gc.disable()
    try:
        pool: WarmPool[Fake] = WarmPool()
        use(pool, "ant", at_once=4)
        use(pool, "bee", at_once=2)
        pool.decay()
        assert count() == before + 6
        del pool
        assert count() == before
    finally:
        gc.enable()


def test_repr_shows_counts() -> None:
    """And no contents."""
    pool: WarmPool[Fake] = WarmPool()
    fill(pool, "ant", 100, 23)
    pool.acquire("ant")
    assert repr(pool) == "<WarmPool: 1 idle (100 bytes), 1 in use>"


# --- any order of steps -----------------------------------------------------------------------------------------------


class AnyOrder(RuleBasedStateMachine):
    """Every step in every order, against what must always be true."""

    lent: Bundle[Fake] = Bundle("lent")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.pool: WarmPool[Fake] = WarmPool(max_per_module=2, max_items=4, max_bytes=900, clock=self.clock)
        self.made: list[Fake] = []
        self.out: set[Fake] = set()

    @rule(target=lent, key=st.sampled_from(KEYS), nbytes=st.integers(0, 400))
    def take(self, key: str, nbytes: int) -> Fake:
        item = self.pool.acquire(key)
        if item is None:
            item = self.pool.adopt(key, Fake(nbytes))
            self.made.append(item)
        assert item not in self.out
        self.out.add(item)
        item.call()
        return item

    @rule(item=consumes(lent), nbytes=st.integers(0, 400), resets=st.booleans() | st.just(True))
    def give(self, item: Fake, nbytes: int, resets: bool) -> None:
        item.nbytes, item.resets = nbytes, resets
        self.out.discard(item)
        kept = self.pool.release(item)
        assert resets or not kept
        assert kept or item.closed

    @rule(item=consumes(lent))
    def drop(self, item: Fake) -> None:
        self.out.discard(item)
        self.pool.drop(item)
        assert item.closed

    @rule(target=lent, item=consumes(lent), seconds=st.sampled_from((0.0, 0.5, 2.0)))
    def wait(self, item: Fake, seconds: float) -> Any:
        self.clock.now += seconds
        return multiple(item)

    @rule(key=st.sampled_from(KEYS))
    def discard(self, key: str) -> None:
        self.pool.discard(key)
        assert key not in self.pool.statistics().modules

    @rule()
    def decay(self) -> None:
        before = self.pool.statistics().idle
        count = self.pool.decay()
        found = self.pool.statistics()
        assert found.idle == before - count
        for module in found.modules.values():
            assert module.idle + module.in_use <= module.peak

    @rule(nbytes=st.integers(0, 900))
    def trim(self, nbytes: int) -> None:
        freed = self.pool.trim(nbytes)
        assert freed >= nbytes or not self.pool.statistics().idle

    @rule(items=st.integers(0, 5), per_module=st.integers(0, 3), nbytes=st.integers(0, 900))
    def resize(self, items: int, per_module: int, nbytes: int) -> None:
        self.pool.resize(max_items=items, max_per_module=per_module, max_bytes=nbytes)

    @invariant()
    def sums_are_right(self) -> None:
        found = self.pool.statistics()
        check_sums(found)
        alive = [item for item in self.made if not item.closed]
        assert found.made == len(self.made)
        assert found.in_use == len(self.out)
        assert found.idle == len(alive) - len(self.out)
        assert all(item.closed == 0 for item in self.out)

    @invariant()
    def bounds_hold(self) -> None:
        found = self.pool.statistics()
        assert found.idle <= self.pool._max_items
        assert found.idle_bytes <= self.pool._max_bytes
        assert all(module.idle <= self.pool._max_per_module for module in found.modules.values())

    def teardown(self) -> None:
        self.pool.close()
        for item in tuple(self.out):
            self.pool.release(item)
        assert [item.closed for item in self.made] == [1] * len(self.made)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
