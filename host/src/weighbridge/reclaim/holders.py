"""Whether somebody other than the plugin holds a thing, and where."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from types import CellType, FrameType, ModuleType
from typing import Any, Final, cast

from .belongings import Belongings
from .names import CONTAINERS, SUSPENDED, is_any, name_of, namespace_of, referents, short

_DEPTH: Final = 8
_WIDEST: Final = 200_000
_CROWD: Final = 200
"""``gc.get_referrers`` compares every reference on the heap with each of its arguments; for more of them a walk that
looks them up is quicker."""
_OURS: Final = __name__.partition(".")[0]
UNSEEN: Final = "somewhere that Python cannot see, such as a running frame"


def strangers(found: Sequence[tuple[Any, ...]], belongings: Belongings) -> dict[int, str]:
    """Which things hang on anything outside of the plugin, by identity, each with the place.

    What only the plugin itself holds goes with it: it is no tie. Each level of holders costs a walk over the heap, and
    there is none when there is nothing to ask about.

    :param found: tuples that begin with a thing each. They, and their sequence, do not count as holders; what else the
        caller has made to hold the things would.
    """
    search = _Search(belongings, ours=(found, *found))
    search.run([one[0] for one in found])
    return search.found


class _Search:
    """Upwards from the things, level by level, until modules, running frames and the plugin's own code are reached."""

    def __init__(self, belongings: Belongings, ours: Iterable[object]) -> None:
        self.found: dict[int, str] = {}
        self._belongings = belongings
        # by identity: lists of ours refer to everything that was looked for
        self._ours = {id(held) for held in (*ours, belongings.heap, *belongings.heap.values())}
        self._ours |= {id(held) for held in namespace_of(belongings).values()}

    def run(self, things: list[Any]) -> None:
        """Fill `found`."""
        trails = {id(thing): {id(thing): ""} for thing in things}
        level, seen = things, [*things]
        asked = len(trails)
        known = set(trails)
        self._ours |= {id(things), id(seen)}
        for _ in range(_DEPTH):
            if not level or len(level) > _WIDEST or len(self.found) == asked:
                return
            after: list[Any] = []
            self._ours.add(id(after))
            for holder, held in self._referrers(level):
                self._follow(holder, held, trails)
                if id(holder) in trails and id(holder) not in known:
                    known.add(id(holder))
                    seen.append(holder)
                    after.append(holder)
            level = after

    def _referrers(self, level: list[Any]) -> list[tuple[Any, list[Any]]]:
        """Who holds things of this level, with what they hold; a thing that nothing holds is held out of sight."""
        wanted = set(map(id, level))
        referrers = self._nearest(level) if len(level) <= _CROWD else self._among_all(wanted)
        self._ours.add(id(referrers))
        pairs = []
        for holder in referrers:
            if id(holder) not in self._ours and not _is_ours(holder):
                pairs.append((holder, [held for held in referents(holder) if id(held) in wanted]))
        reached = {id(one) for _, held in pairs for one in held}
        pairs.extend((None, [one]) for one in level if id(one) not in reached)
        self._ours.update(map(id, pairs))
        self._ours.update(id(held) for _, held in pairs)
        self._ours.add(id(pairs))
        return pairs

    def _nearest(self, level: list[Any]) -> list[Any]:
        arguments = tuple(level)
        self._ours.add(id(arguments))  # from Python 3.13 on it is found too
        return gc.get_referrers(*arguments)

    def _among_all(self, wanted: set[int]) -> list[Any]:
        every = gc.get_objects()
        self._ours.add(id(every))
        return [holder for holder in every if not wanted.isdisjoint(map(id, referents(holder)))]

    def _follow(self, holder: Any, held: list[Any], trails: dict[int, dict[int, str]]) -> None:
        """Note where a way ends; else go on from `holder`."""
        if id(holder) in trails or (holder is not None and self._is_plugins(holder)):
            return
        trail = {
            origin: _edge(holder, one) + (_dotted(text) if namespace_of(holder) is one else text)
            for one in held
            for origin, text in trails[id(one)].items()
            if origin not in self.found
        }
        if holder is None or issubclass(type(holder), ModuleType | FrameType | type):
            root = UNSEEN if holder is None else name_of(holder)
            for origin, text in trail.items():
                self.found[origin] = root if holder is None else root + _dotted(text)
        elif trail:
            trails[id(holder)] = trail

    def _is_plugins(self, holder: Any) -> bool:
        frame = _frame(holder)
        if frame is not None:
            return id(frame.f_globals) in self._belongings.spaces
        # a tuple, a closure or a partial that has something of the plugin's in it may be anybody's
        return self._belongings.is_code(holder) or self._belongings.is_code(type(holder))


def _is_ours(holder: Any) -> bool:
    """A frame of the host's, on the stack or in a generator: the collector finds the variables of a running one too."""
    frame = _frame(holder)
    home = frame.f_globals.get("__name__") if frame is not None else None
    return type(home) is str and home.partition(".")[0] == _OURS


def _frame(holder: Any) -> FrameType | None:
    kind = type(holder)
    if kind is FrameType:
        return cast(FrameType, holder)
    return cast("FrameType | None", getattr(holder, SUSPENDED[kind])) if is_any(kind, SUSPENDED) else None


def _edge(holder: Any, held: Any) -> str:
    """How `holder` refers to `held`."""
    kind = type(holder)
    if kind is dict:
        return next((f"[{short(key)}]" for key, value in list(holder.items()) if value is held), "[key]")
    if kind is list or kind is tuple:
        return next((f"[{index}]" for index, one in enumerate(holder) if one is held), "[...]")
    if kind is CellType or namespace_of(holder) is held:
        return ""
    if attribute := next((name for name, value in list(namespace_of(holder).items()) if value is held), ""):
        return f".{attribute}"
    return "[...]" if kind.__name__ in CONTAINERS else ""


def _dotted(text: str) -> str:
    """``['results'][0]`` of a module reads ``.results[0]``."""
    first, closing, rest = text.partition("']")
    return f".{first[2:]}{rest}" if closing and first.startswith("['") and first[2:].isidentifier() else text
