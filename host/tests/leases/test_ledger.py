"""The ledger: everything that was lent comes back, in reverse order, whatever fails on the way."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge.leases.ledger import Extent, Lease, LeaseLedger, LedgerStatistics, Revocation


def raising(error: BaseException) -> Callable[[], None]:
    def undo() -> None:
        raise error

    return undo


def held(ledger: LeaseLedger) -> dict[str, int]:
    return dict(ledger.statistics().held)


def test_everything_comes_back_in_reverse_order() -> None:
    """What was lent last may rest on what was lent before, so it is taken back first."""
    ledger, undone = LeaseLedger(), list[str]()
    for name in ("socket", "timer", "thread"):
        ledger.lend("thing", name, partial(undone.append, name))
    assert ledger.revoke() == Revocation(revoked={"thing": 3}, failures=())
    assert undone == ["thread", "timer", "socket"]
    assert held(ledger) == {}


@pytest.mark.parametrize("error", [ValueError("stuck"), SystemExit("stuck")], ids=["error", "exit"])
def test_a_failing_undo_does_not_stop_the_next(error: BaseException) -> None:
    """Each failure is one line that names the lease; every other lease comes back, and the failing one is over too."""
    ledger, undone = LeaseLedger(), list[str]()
    ledger.lend("timer", "tick", partial(undone.append, "tick"))
    ledger.lend("thread", "pump", raising(error))
    ledger.lend("timer", "tock", partial(undone.append, "tock"))
    revocation = ledger.revoke()
    assert revocation == Revocation(
        revoked={"timer": 2, "thread": 1}, failures=(f"thread 'pump': {type(error).__name__}: stuck",)
    )
    assert undone == ["tock", "tick"]
    assert held(ledger) == {}


def test_ctrl_c_comes_after_everything_is_back() -> None:
    """Who presses Ctrl-C while leases are taken back gets the interrupt, but not half a revocation."""
    ledger, undone = LeaseLedger(), list[str]()
    ledger.lend("timer", "first", partial(undone.append, "first"))
    ledger.lend("timer", "interrupted", raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        ledger.revoke()
    assert undone == ["first"]
    assert held(ledger) == {}
    with pytest.raises(RuntimeError, match="closed"):
        ledger.lend("timer", "late", lambda: None)


def test_a_lease_is_released_once() -> None:
    """Releasing twice does nothing, and revoking does not touch what came back early."""
    ledger, undone = LeaseLedger(), list[str]()
    lease = ledger.lend("timer", "tick", partial(undone.append, "tick"))
    lease.release()
    lease.release()
    assert undone == ["tick"]
    assert ledger.revoke() == Revocation(revoked={}, failures=())
    lease.release()
    assert undone == ["tick"]


def test_an_undo_that_raises_reaches_who_releases() -> None:
    """A plugin that gives something back early sees what went wrong, and the lease is over all the same."""
    ledger = LeaseLedger()
    lease = ledger.lend("thread", "pump", raising(ValueError("stuck")))
    with pytest.raises(ValueError, match="stuck"):
        lease.release()
    lease.release()
    assert held(ledger) == {}
    assert ledger.revoke().failures == ()


def test_lending_after_everything_was_taken_back_is_undone() -> None:
    """A plugin that takes something after its end gets an error, and the thing is back before it does."""
    ledger, undone = LeaseLedger(), list[str]()
    ledger.revoke()
    with pytest.raises(RuntimeError) as caught:
        ledger.lend("timer", "late", partial(undone.append, "late"))
    assert str(caught.value) == "the ledger is closed"
    assert undone == ["late"]
    assert ledger.statistics() == LedgerStatistics(held={}, made=0, returned=0)


def test_what_an_undo_lends_is_taken_back_too() -> None:
    """An undo that takes something new cannot smuggle it past the end."""
    ledger, undone = LeaseLedger(), list[str]()

    def undo() -> None:
        undone.append("outer")
        ledger.lend("timer", "inner", partial(undone.append, "inner"))

    ledger.lend("timer", "outer", undo)
    ledger.lend("timer", "last", partial(undone.append, "last"))
    assert ledger.revoke().revoked == {"timer": 3}
    assert undone == ["last", "outer", "inner"]


def test_a_ledger_is_closed_by_revoking() -> None:
    """It is open until everything was taken back, also while that is under way."""
    ledger, seen = LeaseLedger(), list[bool]()
    ledger.lend("timer", "tick", lambda: seen.append(ledger.is_closed))
    assert not ledger.is_closed
    ledger.revoke()
    assert seen == [False]
    assert ledger.is_closed


def test_revoking_twice_does_nothing_more() -> None:
    """An unload that is repeated finds an empty ledger."""
    ledger, undone = LeaseLedger(), list[str]()
    ledger.lend("timer", "tick", partial(undone.append, "tick"))
    ledger.revoke()
    assert ledger.revoke() == Revocation(revoked={}, failures=())
    assert undone == ["tick"]


def test_a_lease_shows_what_it_is_and_whether_it_is_held() -> None:
    """The repr names kind and label and state, and shows nothing of the thing itself."""
    lease = LeaseLedger().lend("timer", "lamp.tick", lambda: None)
    assert repr(lease) == "<Lease timer 'lamp.tick' held>"
    lease.release()
    assert repr(lease) == "<Lease timer 'lamp.tick' released>"


def test_a_released_lease_holds_nothing() -> None:
    """Neither the ledger nor the lease keeps the undo, and what it refers to, once it has run."""

    class Thing:
        def undo(self) -> None:
            """Go back."""

    ledger, thing = LeaseLedger(), Thing()
    reference = weakref.ref(thing)
    lease = ledger.lend("thing", "x", thing.undo)
    gc.disable()
    try:
        del thing
        assert reference() is not None
        lease.release()
        assert reference() is None
    finally:
        gc.enable()


@given(st.lists(st.tuples(st.sampled_from(["lend", "release"]), st.sampled_from("abc"), st.integers(0, 9))))
def test_statistics_add_up(steps: list[tuple[str, str, int]]) -> None:
    """Whatever was lent and released, held by kind is what is out, and made is held plus returned."""
    ledger, out, made = LeaseLedger(), list[Lease](), 0
    for step, kind, index in steps:
        if step == "lend":
            out.append(ledger.lend(kind, str(index), lambda: None))
            made += 1
        elif out:
            out.pop(index % len(out)).release()
        kinds = [lease.kind for lease in out]
        assert ledger.statistics() == LedgerStatistics(
            held={kind: kinds.count(kind) for kind in kinds}, made=made, returned=made - len(out)
        )
    assert sum(ledger.revoke().revoked.values()) == len(out)
    assert ledger.statistics() == LedgerStatistics(held={}, made=made, returned=made)


def test_statistics_cannot_be_written() -> None:
    """A record of what is held stays as it was drawn."""
    ledger = LeaseLedger()
    ledger.lend("timer", "tick", lambda: None)
    before: Any = ledger.statistics().held
    ledger.lend("timer", "tock", lambda: None)
    assert before == {"timer": 1}
    with pytest.raises(TypeError):
        before["timer"] = 5
    revoked: Any = ledger.revoke().revoked
    with pytest.raises(TypeError):
        revoked["timer"] = 5


def test_eight_threads_lose_and_repeat_nothing() -> None:
    """While eight threads lend and release and a ninth revokes, every undo runs exactly once and nothing is left."""
    ledger, start = LeaseLedger(), threading.Barrier(9)
    undone: list[tuple[int, int]] = []
    lent: list[list[tuple[int, int]]] = [[] for _ in range(8)]
    refused = [0] * 8

    def work(number: int) -> None:
        start.wait()
        for index in range(400):
            lent[number].append((number, index))
            try:
                lease = ledger.lend("thing", str(index), partial(undone.append, (number, index)))
            except RuntimeError:
                refused[number] += 1
                continue
            if index % 3 == 0:
                lease.release()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    start.wait()
    revocation = ledger.revoke()
    for thread in threads:
        thread.join()
    rest = ledger.revoke()  # nothing if the first one closed the ledger, else what came after it saw an empty one
    assert revocation.failures == rest.failures == ()
    assert sorted(undone) == sorted(thing for some in lent for thing in some)
    statistics = ledger.statistics()
    assert statistics.held == {}
    assert statistics.made == statistics.returned == 8 * 400 - sum(refused)


def test_a_lease_that_eight_threads_release_comes_back_once() -> None:
    """Who is first gives it back; the others do nothing."""
    ledger, start, undone = LeaseLedger(), threading.Barrier(8), list[int]()
    leases = [ledger.lend("thing", str(number), partial(undone.append, number)) for number in range(200)]

    def work() -> None:
        start.wait()
        for lease in leases:
            lease.release()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(undone) == list(range(200))


# --- leases that grow -------------------------------------------------------------------------------------------------


def test_a_lease_may_stand_for_many_and_has_a_size() -> None:
    """A pool of buffers is one lease; the books show how many it has lent, and their bytes, as they are now."""
    ledger, lent = LeaseLedger(), [Extent(0, 0)]
    ledger.lend("buffer", "lamp", lambda: None, extent=lambda: lent[0])
    ledger.lend("cache", "lamp.cache", lambda: None, extent=lambda: Extent(1, 50))
    ledger.lend("timer", "lamp.tick", lambda: None)
    assert (ledger.statistics().held, ledger.nbytes) == ({"cache": 1, "timer": 1}, 50)
    lent[0] = Extent(3, 3000)
    assert (ledger.statistics().held, ledger.nbytes) == ({"buffer": 3, "cache": 1, "timer": 1}, 3050)
    assert ledger.statistics().made == 3
    assert ledger.revoke().revoked == {"buffer": 3, "cache": 1, "timer": 1}
    assert ledger.nbytes == 0


def test_a_finalizer_may_lease_while_the_books_are_read() -> None:
    """The collector runs it in the thread that has the lock."""
    ledger = LeaseLedger()

    class Late:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            ledger.lend("timer", "late", lambda: None)

    def read() -> Extent:
        Late()
        gc.collect()
        return Extent(1, 1)

    ledger.lend("cache", "lamp.cache", lambda: None, extent=read)
    with ledger._lock:
        assert ledger.nbytes == 1
    assert ledger.statistics().held["cache"] == 1
    assert ledger.revoke().revoked["cache"] == 1
