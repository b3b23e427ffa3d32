"""WASI's clocks, and waiting by them, answered in Python.

wasmtime's own ``poll_oneoff`` sleeps in native code, where no epoch ends it: a module that sleeps for an hour would
hold its thread for an hour, whatever deadline its call has. Here nobody sleeps beyond the deadline. What is waited for
may be a time on the clock that the module read, so that clock is here as well: the origin of wasmtime's monotonic
clock cannot be had.

Layouts and numbers are those of preview 1:
https://github.com/WebAssembly/WASI/blob/main/legacy/preview1/docs.md
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import attrs
from weighbridge_hookspecs import DeadlineExceeded

SUCCESS: Final = 0
EFAULT: Final = 21
EINVAL: Final = 28
ENOTSUP: Final = 58
"""``errno``: success, fault, inval, notsup."""

REALTIME: Final = 0
MONOTONIC: Final = 1
"""``clockid``; the clocks of processor time are not offered."""

MOST_SUBSCRIPTIONS: Final = 4096
"""What one call may wait for. Reading them takes time in which no deadline is looked at, about 10 ms for so many."""

_CLOCK: Final = 0
_FD_KINDS: Final = (1, 2)
"""``eventtype``: clock, fd_read, fd_write."""
_ABSOLUTE: Final = 1
"""``subclockflags``: the time is a point on the clock."""

_SUBSCRIPTION: Final = struct.Struct("<QB7xI4xQQH6x")
_EVENT: Final = struct.Struct("<QHB5xQH6x")
_NANOSECONDS: Final = 1_000_000_000
_NAP_SECONDS: Final = 0.125


class Calling(Protocol):
    """The instance that calls, as a host function sees it."""

    @property
    def memory_bytes(self) -> int:
        """Size of its memory in bytes."""

    def read(self, address: int, nbytes: int) -> bytes:
        """Bytes of its memory."""

    def write(self, address: int, data: bytes) -> None:
        """Change bytes of its memory."""

    def remaining_seconds(self) -> float | None:
        """Seconds until the deadline of the call, 0 if it has passed; None if it has none."""


@attrs.frozen(kw_only=True)
class _Wanted:
    """One subscription: what is waited for."""

    user: int
    kind: int
    seconds: float | None
    """From now, 0 or more; None if it is nothing that can be waited for."""

    @property
    def event(self) -> bytes:
        """What the module gets once it has come."""
        known = self.seconds is not None
        # of a file it is not known how many bytes there are: one at least, or its end
        return _EVENT.pack(self.user, SUCCESS if known else ENOTSUP, self.kind, int(self.kind in _FD_KINDS), 0)


class Clocks:
    """The real time and a monotonic clock that begins when this object is made, both in nanoseconds."""

    def __init__(
        self,
        *,
        realtime_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._realtime_ns, self._monotonic_ns, self._sleep = realtime_ns, monotonic_ns, sleep
        self._origin_ns = monotonic_ns()

    def now(self, clock: int) -> int | None:
        """Nanoseconds on that clock; None if it is not offered."""
        if clock == REALTIME:
            return self._realtime_ns()
        return self._monotonic_ns() - self._origin_ns if clock == MONOTONIC else None

    def clock_time_get(self, caller: Calling, clock: int, precision: int, result: int) -> int:
        """Write the time, 8 bytes, to `result`; an ``errno``."""
        now = self.now(clock)
        if now is None:
            return EINVAL
        return _put(caller, result, now.to_bytes(8, "little"))

    def poll_oneoff(self, caller: Calling, wanted: int, events: int, count: int, result: int) -> int:
        """Wait until one of `count` subscriptions at `wanted` has come; write all that have to `events`.

        A file is always ready: none that can be granted is better known.

        :raises DeadlineExceeded: at the deadline of the call, if that comes first.
        """
        wanted, events, count, result = (number & 0xFFFFFFFF for number in (wanted, events, count, result))
        if not 1 <= count <= MOST_SUBSCRIPTIONS:
            return EINVAL
        if not all(_is_inside(caller, *run) for run in _runs(wanted, events, count, result)):
            return EFAULT
        subscriptions = list(self._read(caller.read(wanted, count * _SUBSCRIPTION.size)))
        come = self._await(caller, subscriptions)
        caller.write(events, b"".join(subscription.event for subscription in come))
        return _put(caller, result, len(come).to_bytes(4, "little"))

    def _read(self, content: bytes) -> Iterator[_Wanted]:
        for user, kind, clock, timeout_ns, _, flags in _SUBSCRIPTION.iter_unpack(content):
            if kind == _CLOCK:
                seconds = self._until(clock, timeout_ns, bool(flags & _ABSOLUTE))
            else:
                seconds = 0.0 if kind in _FD_KINDS else None
            yield _Wanted(user=user, kind=kind, seconds=seconds)

    def _until(self, clock: int, timeout_ns: int, is_absolute: bool) -> float | None:
        now = self.now(clock)
        if now is None:
            return None
        return max(0, timeout_ns - now if is_absolute else timeout_ns) / _NANOSECONDS

    def _await(self, caller: Calling, wanted: list[_Wanted]) -> list[_Wanted]:
        """Sleep until the first of them; those that have come then."""
        soonest = min(subscription.seconds or 0.0 for subscription in wanted)
        if soonest:
            self._wait(caller, soonest)
        return [subscription for subscription in wanted if (subscription.seconds or 0.0) <= soonest]

    def _wait(self, caller: Calling, seconds: float) -> None:
        """Sleep a little at a time: whoever ends calls early brings their deadline forward meanwhile."""
        now = self._monotonic_ns()
        end = now + round(seconds * _NANOSECONDS)
        left = caller.remaining_seconds()
        due = end if left is None else min(end, now + round(left * _NANOSECONDS))
        while now < due and left != 0:
            self._sleep(min((due - now) / _NANOSECONDS, _NAP_SECONDS))
            now, left = self._monotonic_ns(), caller.remaining_seconds()
        if now < end:
            rest = (end - now) / _NANOSECONDS
            raise DeadlineExceeded(
                f"the call wanted to wait for {seconds:g} s, and its time was over {rest:g} s before"
            )


def _runs(wanted: int, events: int, count: int, result: int) -> tuple[tuple[int, int], ...]:
    return (wanted, count * _SUBSCRIPTION.size), (events, count * _EVENT.size), (result, 4)


def _is_inside(caller: Calling, address: int, nbytes: int) -> bool:
    return address + nbytes <= caller.memory_bytes


def _put(caller: Calling, address: int, content: bytes) -> int:
    address &= 0xFFFFFFFF
    if not _is_inside(caller, address, len(content)):
        return EFAULT
    caller.write(address, content)
    return SUCCESS
