"""Waiting until nobody is inside a plugin any more.

Hook calls are not counted, so the hot path pays nothing. Once the hooks are unregistered no new call can reach the
plugin, and the stacks of the running threads tell who is still inside: a frame of the plugin's own code, or a call of
one of its hooks that had already taken its list of implementations and may come to the plugin yet.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType
from typing import Final

import pluggy

from .heap import gather
from .threads import began_in, stack

_FIRST_PAUSE: Final = 0.0005
_LONGEST_PAUSE: Final = 0.02
_CALLS: Final[frozenset[CodeType]] = frozenset(
    getattr(pluggy.HookCaller, name).__code__ for name in ("__call__", "call_historic", "call_extra")
)


class Drain:
    """One wait. Make it after the hooks were unregistered.

    :param namespaces: of the plugin's modules, by :func:`weighbridge.reclaim.watch.namespaces`.
    :param callers: hook callers that had an implementation of the plugin.
    :param leased: identifiers of threads that the host supervises. What they run for the plugin is stopped later, with
        the other leases, so that only a call that the host makes itself keeps them inside.
    :param is_calling: whether a frame has a call of the plugin in hand that does not go through a caller.
    """

    def __init__(
        self,
        namespaces: Collection[int],
        callers: Collection[object],
        leased: Collection[int],
        *,
        is_calling: Callable[[FrameType], bool] = lambda frame: False,
    ) -> None:
        self._namespaces = namespaces
        self._leased = leased
        self._is_calling = is_calling
        self._calls = self._calls_under_way({id(caller) for caller in callers})

    def inside(self) -> list[str]:
        """One line for everybody who is inside now."""
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        lines = []
        for ident, frame in sys._current_frames().items():
            at = self._inside(frame) if ident not in self._leased or self._has_call(frame) else None
            if at is not None:
                lines.append(f"thread {names.get(ident, ident)!r} at {_place(at)}")
        return lines + [f"coroutine {name} at {place}" for name, place in self._coroutines()]

    def is_inside(self, ident: int) -> bool:
        """Whether the thread `ident` is inside now."""
        frame = sys._current_frames().get(ident)
        return frame is not None and self._inside(frame) is not None

    def wait(self, seconds: float) -> list[str]:
        """Wait until nobody is inside; who still is after `seconds`, as lines, empty if all have left."""
        deadline = time.monotonic() + seconds
        pause = _FIRST_PAUSE
        while (inside := self.inside()) and time.monotonic() < deadline:
            time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
            pause = min(pause * 2, _LONGEST_PAUSE)
        self._calls.clear()
        return inside

    def _inside(self, frame: FrameType) -> FrameType | None:
        """The innermost frame of a stack that is the plugin's; None for a thread that the plugin itself began."""
        if began_in(frame, self._namespaces):
            return None
        for step in stack(frame):
            if id(step.f_globals) in self._namespaces or any(step is call for call in self._calls):
                return step
        return None

    def _has_call(self, frame: FrameType) -> bool:
        return any(step is call for step in stack(frame) for call in self._calls)

    def _calls_under_way(self, callers: set[int]) -> list[FrameType]:
        """Frames of calls that may have copied their list of implementations before the plugin was taken out of it."""
        return [
            step
            for ident, frame in sys._current_frames().items()
            for step in stack(frame)
            if self._is_calling(step)
            or (ident not in self._leased and step.f_code in _CALLS and id(step.f_locals.get("self")) in callers)
        ]

    def _coroutines(self) -> Iterator[tuple[str, str]]:
        """Coroutines of the plugin that have begun and not ended. Looked for only where asyncio or the like is used."""
        if "asyncio" not in sys.modules and "trio" not in sys.modules:
            return
        found = gather((CoroutineType, AsyncGeneratorType))  # both kinds are final
        every = [(thing, thing.cr_frame, thing.cr_await, thing.cr_running) for thing in found[CoroutineType]]
        every += [(thing, thing.ag_frame, thing.ag_await, thing.ag_running) for thing in found[AsyncGeneratorType]]
        for thing, frame, awaited, running in every:
            begun = awaited is not None or running
            if begun and frame is not None and id(frame.f_globals) in self._namespaces:
                yield thing.__qualname__, _place(frame)


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
