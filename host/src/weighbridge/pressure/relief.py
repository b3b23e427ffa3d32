"""Making room: what is done for it, who is asked, and what really came of it."""

from __future__ import annotations

import gc
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

import attrs
from weighbridge_hookspecs import Event, ReleaseRequest
from weighbridge_hookspecs.records import PressureLevel

from ..accounting.process import trim
from ..hooks import Hooks
from ..units import format_bytes
from .alone import Alone

Occasion: TypeAlias = Literal["load", "buffer", "pressure", "request"]
Means: TypeAlias = Literal["young", "buffers", "plugins", "all"]
Deed: TypeAlias = Literal["young", "buffers", "plugin", "all"]
_NEEDS: Final[Mapping[Occasion, str]] = {
    "load": "for a load",
    "buffer": "for a buffer",
    "pressure": "to relieve the process",
    "request": "by a plugin that watches the machine",
}
KEPT_REACTIONS: Final = 32
_WAIT_SECONDS: Final = 10.0
_ROUNDS: Final = 3
_RELEASE: Final = "weighbridge_release_memory"

ORDER: Final[Mapping[Occasion, tuple[Means, ...]]] = MappingProxyType(
    {
        # A load collects several times as it is, and spares the caches of others if that is enough.
        "load": ("young", "buffers", "all", "plugins"),
        # By then the ceiling of buffers has collected, and idle ones are gone.
        "buffer": ("plugins",),
        # A full collection stops every thread for as long as it takes, so it comes last.
        "pressure": ("young", "buffers", "plugins", "all"),
        "request": ("young", "buffers", "plugins", "all"),
    }
)
"""What is done on which occasion, one after the other, until there is room."""


@attrs.frozen(kw_only=True)
class Effort:
    """One thing that was done for room."""

    means: Deed
    """The younger generations collected; idle buffers given back; a plugin asked; everything collected."""
    plugin: str | None = None
    believed_bytes: int | None = None
    """What the plugin believes it released, or idle buffers took; None for a collection."""
    resident_before_bytes: int
    resident_after_bytes: int
    seconds: float


@attrs.frozen(kw_only=True)
class Reaction:
    """One attempt to make room."""

    occasion: Occasion
    """A load that did not fit, a buffer that did not, the process above its threshold, or a plugin that asked."""
    level: PressureLevel
    wanted_bytes: int
    missing_bytes: int
    """Of those, what was still missing at the end; 0 if there is room now."""
    efforts: tuple[Effort, ...]
    resident_before_bytes: int
    resident_after_bytes: int
    at: float
    """When it began, by ``time.time()``."""
    seconds: float

    @property
    def believed_bytes(self) -> Mapping[str, int]:
        """What each plugin that was asked believes it released."""
        believed: Counter[str] = Counter()
        for one in self.efforts:
            if one.plugin is not None:
                believed[one.plugin] += one.believed_bytes or 0
        return believed

    @property
    def freed_bytes(self) -> int:
        """By how much the resident set shrank; below 0 if it grew meanwhile."""
        return self.resident_before_bytes - self.resident_after_bytes


@attrs.define
class _Course:
    """How one attempt is going."""

    missing: Callable[[], int]
    left: int
    efforts: list[Effort] = attrs.field(factory=list)


class Relief:
    """Makes room, cheapest means first, one attempt at a time. Thread-safe.

    :param resident_bytes: what the process occupies now.
    :param held: bytes on each account; the biggest is asked first.
    :ivar give_back: gives idle buffers back until so many bytes are free; the bytes that went.
    """

    def __init__(
        self,
        hooks: Hooks,
        resident_bytes: Callable[[], int],
        held: Callable[[], Mapping[str, int]],
    ) -> None:
        self._hooks = hooks
        self._resident_bytes = resident_bytes
        self._held = held
        self.give_back: Callable[[int], int] = lambda nbytes: 0
        # A plugin that is asked may itself need room: it does not get it so.
        self._alone = Alone()
        self._reactions: deque[Reaction] = deque(maxlen=KEPT_REACTIONS)

    @property
    def reactions(self) -> tuple[Reaction, ...]:
        """The last ones, the latest at the end."""
        return tuple(self._reactions)

    @property
    def last(self) -> Reaction | None:
        """The latest."""
        return next(reversed(self._reactions), None)

    def make_room(
        self,
        occasion: Occasion,
        missing: Callable[[], int],
        *,
        level: PressureLevel = "elevated",
        owner: str | None = None,
    ) -> Reaction | None:
        """Do one thing after another until nothing is missing, or nothing is left to do.

        :param missing: how many bytes are missing now; 0 once there is room.
        :param owner: the plugin for which it is done, which is not asked.
        :returns: None if nothing is missing, if nothing could be done, or where another attempt is under way and cannot
            be waited for.
        """
        with self._alone.taken(wait_seconds=_WAIT_SECONDS if occasion == "load" else 0) as ours:
            wanted = missing() if ours else 0
            if not wanted:
                return None
            reaction = self._react(occasion, _Course(missing, wanted), level, owner)
            if not reaction.efforts:
                return None
            self._reactions.append(reaction)
        reason = f"{format_bytes(wanted)} were needed {_NEEDS[occasion]}"
        self._hooks.event(Event(kind="release", bytes=reaction.freed_bytes, level=level, reason=reason))
        return reaction

    def relieve(self, nbytes: int, level: PressureLevel, owner: str) -> int:
        """Make the process `nbytes` bytes smaller, for a plugin that asks for it; by how many bytes it shrank."""
        target = max(0, self._resident_bytes() - nbytes)
        reaction = self.make_room("request", lambda: max(0, self._resident_bytes() - target), level=level, owner=owner)
        return 0 if reaction is None else max(0, reaction.freed_bytes)

    def _react(self, occasion: Occasion, course: _Course, level: PressureLevel, owner: str | None) -> Reaction:
        at, began, before = time.time(), time.perf_counter(), self._resident_bytes()
        wanted = course.left
        for means in ORDER[occasion]:
            if not course.left:
                break
            if means == "young":
                self._act(course, "young", lambda nbytes: gc.collect(1))
            elif means == "all":
                self._act(course, "all", lambda nbytes: gc.collect())
            elif means == "buffers":
                self._act(course, "buffers", self.give_back)
            else:
                self._ask_plugins(course, level, owner)
        return Reaction(
            occasion=occasion,
            level=level,
            wanted_bytes=wanted,
            missing_bytes=course.left,
            efforts=tuple(course.efforts),
            resident_before_bytes=before,
            resident_after_bytes=self._resident_bytes(),
            at=at,
            seconds=time.perf_counter() - began,
        )

    def _ask_plugins(self, course: _Course, level: PressureLevel, owner: str | None) -> None:
        """One after the other, and once more as long as that gets on: what was freed may not be what was needed."""
        for _ in range(_ROUNDS):
            before = course.left
            self._ask_each(course, level, owner)
            if not course.left or before - course.left < course.left / 8:
                return

    def _ask_each(self, course: _Course, level: PressureLevel, owner: str | None) -> None:
        """The biggest first. One that is unloaded meanwhile is waited for: an unload sees who is being asked."""
        held = self._held()
        for name in sorted(held, key=lambda name: (-held[name], name)):
            if not course.left:
                break
            if name != owner and _RELEASE in self._hooks.implemented(name):
                self._act(course, "plugin", partial(self._ask, name, level), name)

    def _ask(self, name: str, level: PressureLevel, nbytes: int) -> int:
        released = self._hooks.release_memory(name, ReleaseRequest(bytes=nbytes, level=level))
        if released:
            gc.collect(1)  # what it let go of may hang together in a ring
        return released

    def _act(self, course: _Course, means: Deed, act: Callable[[int], int], plugin: str | None = None) -> None:
        before, began = self._resident_bytes(), time.perf_counter()
        figure = act(course.left)
        trim()
        effort = Effort(
            means=means,
            plugin=plugin,
            believed_bytes=figure if means in ("buffers", "plugin") else None,
            resident_before_bytes=before,
            resident_after_bytes=self._resident_bytes(),
            seconds=time.perf_counter() - began,
        )
        course.efforts.append(effort)
        course.left = course.missing()
