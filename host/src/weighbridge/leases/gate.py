"""A limit on how many may work at once, whose places are handed on in order."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final, Literal, TypeAlias

from weighbridge_hookspecs import ConfigurationError, ContextClosed, GateStatistics, LeaseError, Saturated
from weighbridge_hookspecs.services import Priority

from .checks import can_be_called, whole_number

_State: TypeAlias = Literal["new", "waiting", "inside", "over"]

_log: Final = logging.getLogger("weighbridge.gate")
_RANKS: Final[dict[Priority, int]] = {"low": 0, "normal": 1, "high": 2, "critical": 3}
_HIGH: Final = _RANKS["high"]
_MAX_WAITING: Final = 1_000
# Of each service time, this share goes into the average: the weight that TCP gives to a round trip,
# https://www.rfc-editor.org/rfc/rfc6298#section-2
_WEIGHT: Final = 1 / 8


class _Ticket:
    """One request for a place, and the ``with`` block that holds it. A lock of its own wakes it alone."""

    __slots__ = ("began", "error", "gate", "on_preempt", "rank", "signal", "state", "timeout")

    def __init__(
        self, gate: ConcurrencyGate, rank: int, timeout: float | None, on_preempt: Callable[[], object] | None
    ) -> None:
        self.gate = gate
        self.rank = rank
        self.timeout = timeout
        self.on_preempt = on_preempt
        self.state: _State = "new"
        self.signal: threading.Lock | None = None
        self.error: LeaseError | None = None
        self.began = 0.0

    def __enter__(self) -> None:
        if self.state != "new":
            raise RuntimeError("this place was entered before; call enter() again for another one")
        try:
            if not self.gate._arrive(self):
                self.gate._wait(self)
        except BaseException:
            self.gate._abandon(self)
            raise

    def __exit__(self, *error: object) -> None:
        self.gate._leave(self)


class ConcurrencyGate:
    """At most `limit` inside at once; the others wait in line. Thread-safe.

    Who leaves hands the place to the next in line, so nobody who comes later gets it first. Higher priorities go
    first, and within a priority who came first; under a steady stream of higher ones the lower ones wait. A thread
    that enters twice takes two places.

    :param limit: places, from 1 up.
    :param max_waiting: places in the queue, from 0 up; 1,000 if it is None. Every one of them is a thread.
    :param reserve: share of the places for high and critical priority alone, from 0 to below 1, rounded down. They
        may take the other places, too.
    :param clock: seconds that never go back, for measuring how long a place is held.
    :raises ConfigurationError: if one of them makes no sense.
    """

    def __init__(
        self,
        limit: int,
        max_waiting: int | None = None,
        *,
        reserve: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._share = _share(reserve)
        self._set_limit(limit)
        self.max_waiting = whole_number("max_waiting", _MAX_WAITING if max_waiting is None else max_waiting, least=0)
        self._clock = clock
        # The collector may end a generator, and so leave a place, while its thread is at work in here.
        self._lock = threading.RLock()
        self._queues: tuple[OrderedDict[_Ticket, None], ...] = tuple(OrderedDict() for _ in _RANKS)
        self._waiting = 0  # in all queues together
        self._inside: dict[_Ticket, None] = {}
        self._taken = 0  # places; claimed before a ticket is called, so for moments more than there are inside
        self._ordinary = 0  # of these, of low and normal priority
        self._closed = False
        self._service: float | None = None
        self._entered = self._left = self._rejected = self._timed_out = self._interrupted = self._sent_away = 0
        self._preempted = self._failures = 0

    def enter(
        self,
        *,
        priority: Priority = "normal",
        timeout_seconds: float | None = None,
        on_preempt: Callable[[], object] | None = None,
    ) -> AbstractContextManager[None]:
        """Give a ``with`` block that waits for a place, holds it, and hands it on.

        A request of high or critical priority that has to wait asks one of those inside to make room: of those that
        have a lower priority and gave `on_preempt`, the one of the lowest priority that came last. It is asked once,
        by calling `on_preempt` in the thread of the newcomer and outside of all locks. Its work may have ended in that
        very moment, so the function has to be harmless then; setting an event is. The place is handed on when it
        leaves. What `on_preempt` raises is logged as text and counted.

        :param timeout_seconds: how long to wait, from 0 up; for ever if it is None. With 0 nobody is preempted.
        :raises ValueError: at once, if the priority or the time makes no sense.
        :raises Saturated: on entering, if the queue is full, or the time has passed. A full queue gives up the last
            one in it of the lowest priority if that is lower than the newcomer's. ``retry_after_seconds`` is the
            average time that a place was held, times the number of those that would be served first and this one, by
            the places there are; before anybody has left, the longest time that one has been inside is taken for that
            average.
        :raises ContextClosed: on entering, if the gate is closed, or is closed meanwhile.
        """
        rank = _RANKS.get(priority) if isinstance(priority, str) else None
        if rank is None:
            raise ValueError(f"a priority of {priority!r}: take one of {', '.join(_RANKS)}")
        if timeout_seconds is not None and not _is_number_from_0(timeout_seconds):
            raise ValueError(f"a timeout of {timeout_seconds!r} seconds: give a number from 0 up, or None")
        if on_preempt is not None:
            can_be_called("on_preempt", on_preempt)
        return _Ticket(self, rank, timeout_seconds, on_preempt)

    def resize(self, limit: int, *, max_waiting: int | None = None) -> None:
        """Set the limit. More places are handed out at once; of fewer, those who are inside too many leave in peace.

        :param max_waiting: how many may wait from now on; those who wait already stay. None leaves it as it is.
        :raises ConfigurationError: if one of them makes no sense; both are then as they were.
        """
        most = self.max_waiting if max_waiting is None else whole_number("max_waiting", max_waiting, least=0)
        with self._lock:
            self._set_limit(limit)
            self.max_waiting = most
            self._hand_on()

    def close(self) -> None:
        """Send everybody away who waits or comes later. Who is inside leaves in peace, and is asked no more to leave.

        Closing twice does nothing.
        """
        with self._lock:
            self._closed = True
            for queue in self._queues:
                while queue:
                    ticket, _ = queue.popitem(last=False)
                    self._waiting -= 1
                    self._sent_away += 1
                    _turn_away(ticket, _closed())
            dropped = [ticket.on_preempt for ticket in self._inside]
            for ticket in self._inside:
                ticket.on_preempt = None
        dropped.clear()  # outside of the lock: what goes with the callbacks may have finalizers

    release = close

    def statistics(self) -> GateStatistics:
        """How it stands, all of one moment."""
        with self._lock:
            return GateStatistics(
                limit=self._limit,
                reserved=self._reserved,
                max_waiting=self.max_waiting,
                inside=len(self._inside),
                waiting=self._waiting,
                entered=self._entered,
                left=self._left,
                rejected=self._rejected,
                timed_out=self._timed_out,
                interrupted=self._interrupted,
                sent_away=self._sent_away,
                preempted=self._preempted,
                failures=self._failures,
                service_seconds=self._service,
            )

    # --- one request -------------------------------------------------------------------------------------------------

    def _arrive(self, ticket: _Ticket) -> bool:
        """Whether there is a place at once; if not, the ticket is in the queue."""
        with self._lock:
            if self._closed:
                raise _closed()
            if self._has_room_for(ticket.rank):
                self._taken += 1
                self._ordinary += ticket.rank < _HIGH
                self._begin(ticket)
                return True
            self._make_room_to_wait(ticket)
            ticket.signal = threading.Lock()
            ticket.signal.acquire()
            ticket.state = "waiting"
            self._queues[ticket.rank][ticket] = None
            self._waiting += 1
            return False

    def _wait(self, ticket: _Ticket) -> None:
        arrived = time.monotonic()
        if ticket.rank >= _HIGH and ticket.timeout != 0:
            self._preempt_for(ticket)
        assert ticket.signal is not None
        if ticket.timeout is None:
            ticket.signal.acquire()
        else:
            left = arrived + ticket.timeout - time.monotonic()
            if not ticket.signal.acquire(timeout=min(max(left, 0), threading.TIMEOUT_MAX)):
                self._give_up(ticket)
        if ticket.state != "inside":
            raise _error_of(ticket)

    def _give_up(self, ticket: _Ticket) -> None:
        """The time is up, unless the place or an error has come in this very moment."""
        with self._lock:
            if ticket.state == "waiting":
                del self._queues[ticket.rank][ticket]
                self._waiting -= 1
                self._timed_out += 1
                _turn_away(ticket, self._saturated(ticket, f"no place became free within {ticket.timeout:g} s"))

    def _abandon(self, ticket: _Ticket) -> None:
        """An exception ended the wait: out of the queue, and what was handed over meanwhile goes to the next."""
        with self._lock:
            if ticket.state == "waiting":
                del self._queues[ticket.rank][ticket]
                self._waiting -= 1
                self._interrupted += 1
            elif ticket.state == "inside":
                self._end(ticket)
                self._entered -= 1
                self._interrupted += 1
            ticket.state = "over"
            ticket.on_preempt = None

    def _leave(self, ticket: _Ticket) -> None:
        callback = ticket.on_preempt  # held to the end: what goes with it may have finalizers
        with self._lock:
            if ticket.state == "inside":
                seconds = max(self._clock() - ticket.began, 0.0)
                self._service = (
                    seconds if self._service is None else self._service + (seconds - self._service) * _WEIGHT
                )
                self._left += 1
                self._end(ticket)
        del callback

    # --- places; all of these with the lock held ---------------------------------------------------------------------

    def _set_limit(self, limit: object) -> None:
        self._limit = whole_number("limit", limit, least=1)
        self._reserved = int(self._limit * self._share)  # less than the limit: one place at least is for everybody

    def _has_room_for(self, rank: int) -> bool:
        """Whoever waits has no room, so whoever has room overtakes nobody."""
        return self._taken < self._limit and (rank >= _HIGH or self._ordinary < self._limit - self._reserved)

    def _begin(self, ticket: _Ticket) -> None:
        ticket.state = "inside"
        ticket.began = self._clock()
        self._inside[ticket] = None
        self._entered += 1

    def _end(self, ticket: _Ticket) -> None:
        ticket.state = "over"
        ticket.on_preempt = None
        del self._inside[ticket]
        self._taken -= 1
        self._ordinary -= ticket.rank < _HIGH
        self._hand_on()

    def _hand_on(self) -> None:
        while self._waiting and self._taken < self._limit:
            self._taken += 1  # claimed with no call in between, for in a call the collector may leave another place
            ticket = self._next()
            if ticket is None:
                self._taken -= 1
                return
            self._waiting -= 1
            self._begin(ticket)
            assert ticket.signal is not None
            ticket.signal.release()

    def _next(self) -> _Ticket | None:
        for queue in reversed(self._queues[_HIGH:]):
            if queue:
                return queue.popitem(last=False)[0]
        if self._ordinary < self._limit - self._reserved:
            for queue in reversed(self._queues[:_HIGH]):
                if queue:
                    self._ordinary += 1
                    return queue.popitem(last=False)[0]
        return None

    def _make_room_to_wait(self, ticket: _Ticket) -> None:
        """A full queue gives up its last one of the lowest priority, or else the newcomer.

        :raises Saturated: if it is the newcomer.
        """
        if self._waiting < self.max_waiting:
            return
        self._rejected += 1
        for queue in self._queues[: ticket.rank]:
            if queue:
                last, _ = queue.popitem()
                self._waiting -= 1
                _turn_away(last, self._saturated(last, "its place in the queue went to a higher priority"))
                return
        raise self._saturated(ticket, "the queue is full")

    def _preempt_for(self, ticket: _Ticket) -> None:
        """Ask one of those inside to leave, as long as `ticket` still waits."""
        with self._lock:
            victim = self._victim(ticket.rank) if ticket.state == "waiting" else None
            if victim is None:
                return
            callback, victim.on_preempt = victim.on_preempt, None
            self._preempted += 1
            assert callback is not None
        try:
            callback()
        except (Exception, SystemExit):
            failure = traceback.format_exc()  # as text: an exception object would keep its frames alive
            with self._lock:
                self._failures += 1
            _log.error("on_preempt raised:\n%s", failure)

    def _victim(self, rank: int) -> _Ticket | None:
        lower = [ticket for ticket in self._inside if ticket.rank < rank and ticket.on_preempt is not None]
        return min(reversed(lower), key=lambda ticket: ticket.rank, default=None)

    def _saturated(self, ticket: _Ticket, problem: str) -> Saturated:
        state = f"{len(self._inside)} of {self._limit} places taken, {self._waiting} of {self.max_waiting} waiting"
        return Saturated(f"{problem} ({state})", retry_after_seconds=self._estimate(ticket.rank))

    def _estimate(self, rank: int) -> float | None:
        """Seconds until a place would come to one who joins the queue now; None if nothing is known."""
        ages = (self._clock() - ticket.began for ticket in self._inside)
        held = max(ages, default=None) if self._service is None else self._service
        if held is None:
            return None
        places = self._limit if rank >= _HIGH else self._limit - self._reserved
        return held * (sum(map(len, self._queues[rank:])) + 1) / places


def _turn_away(ticket: _Ticket, error: LeaseError) -> None:
    ticket.state = "over"
    ticket.error = error
    ticket.on_preempt = None
    assert ticket.signal is not None
    ticket.signal.release()


def _error_of(ticket: _Ticket) -> LeaseError:
    """Taken off the ticket: a traceback that led back to its own error would be a ring."""
    error, ticket.error = ticket.error, None
    assert error is not None
    return error


def _closed() -> ContextClosed:
    return ContextClosed("the gate is closed", step="lease", advice="Drop it when the plugin is unloaded")


def _is_number_from_0(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _share(reserve: object) -> float:
    if isinstance(reserve, bool) or not isinstance(reserve, int | float) or not 0 <= reserve < 1:
        raise ConfigurationError(
            f"reserve is {reserve!r}",
            step="lease",
            advice="Give the share of places for high priority, from 0 to below 1",
        )
    return float(reserve)
