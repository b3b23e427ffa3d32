"""Who holds an object: the shortest chain of references from a root, in words.

All objects in question are explained by one search, level by level. A few are searched from themselves: one call of
``gc.get_referrers`` with a whole level costs a single walk over the heap, where a search for each object (as
``objgraph.find_backref_chain`` does it) costs a walk for every node that it visits. Many are searched from the roots,
which costs one walk for all levels and all of them together. Nothing is kept: the search ends with text.

The heap is full of objects whose attributes are code: descriptors, proxies, lazy modules. Here types are compared and
never asked (``isinstance`` asks for ``__class__``), and attributes are read from where they are stored.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from array import array
from collections.abc import Iterator, Sequence
from types import (
    CellType,
    FrameType,
    GeneratorType,
    GetSetDescriptorType,
    MemberDescriptorType,
    ModuleType,
)
from typing import Any, Final

import attrs

from ..accounting.references import stored_in
from .names import CONTAINERS, SUSPENDED, name_of, namespace_of, referents, short
from .threads import stack

_DEPTH: Final = 20
"""A longer chain tells a person nothing."""
_CROWD: Final = 200
"""``gc.get_referrers`` compares every reference on the heap with every object of a level; with more objects a search
from the roots is quicker, and it can be broken off."""
_MOST: Final = 2_000_000
"""So many objects a search from the roots looks at; it needs about 80 bytes for each."""
_STRIDE: Final = 1_000


@attrs.frozen
class Chain:
    """How a root holds an object.

    ``steps`` go from the object's holder to the root. ``tie`` names the place nearest to the root that a person would
    recognise, such as ``typing._overload_registry``.
    """

    steps: tuple[str, ...]
    tie: str


NOBODY: Final = Chain((), "no holder that Python can see: atexit, a C library, or a reference in compiled code")
TOO_FAR: Final = Chain((), "not found within the limits of the search")


@attrs.define
class _Node:
    thing: Any
    holders: list[int] = attrs.field(factory=list)
    next: int | None = None
    """The next node on the way to a root."""


def explain(things: Sequence[object], *, seconds: float = 2.0) -> list[Chain]:
    """The shortest chain for each of `things`, in the same order.

    :param seconds: give up looking further after that long.
    """
    search = _search(things, seconds)
    return [search.chain(thing) for thing in things]


def ways(things: Sequence[object], *, seconds: float = 2.0) -> list[list[Any]]:
    """The same as objects, from the root to the thing; a list of one where no root was found.

    They are alive for as long as the caller has them.
    """
    search = _search(things, seconds)
    return [search.way(thing)[::-1] for thing in things]


def _search(things: Sequence[object], seconds: float) -> _FromThings | _FromRoots:
    deadline = time.monotonic() + seconds
    near = _FromThings(things, deadline)
    near.run()
    if not near.crowded:
        return near
    far = _FromRoots(things, deadline)
    far.run()
    return far


class _Search:
    exhausted = False
    """Whether everything there is was looked at."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline

    def way(self, thing: object) -> list[Any]:
        """From one target to its root; only itself if none was found."""
        raise NotImplementedError

    def chain(self, thing: object) -> Chain:
        """The way from one target to its root, in words."""
        way = self.way(thing)
        if len(way) == 1:
            return NOBODY if self.exhausted else TOO_FAR
        return _describe(way)


class _FromThings(_Search):
    """The circle of holders is widened until every target hangs on a root."""

    crowded = False
    """Whether it was given up because there are too many holders for it."""

    def __init__(self, things: Sequence[object], deadline: float) -> None:
        super().__init__(deadline)
        self._nodes = {id(thing): _Node(thing) for thing in things}
        self._targets = frozenset(self._nodes)
        self._roots: list[int] = []
        self._frames = _held_by_running_frames()
        # what the search itself holds is nobody's tie
        self._ours = {id(things), id(self), id(self.__dict__), id(self._nodes), id(self._roots), id(self._frames)}

    def run(self) -> None:
        """Search until all is found, nothing is left to look at, or a limit is reached."""
        level = list(self._nodes)
        for _ in range(_DEPTH):
            if len(level) > _CROWD:
                self.crowded = True
                return
            level = self._holders(level)
            self._connect()
            if not level:
                self.exhausted = not self._is_late()
                return
            if self._is_late() or all(self._nodes[target].next is not None for target in self._targets):
                return

    def _holders(self, level: list[int]) -> list[int]:
        """The nodes that hold a node of `level` and were not known; roots are noted and not looked behind."""
        wanted = set(level)
        found: list[int] = []
        self._ours |= {id(level), id(wanted), id(found)}
        for holder in self._referrers(level):
            if id(holder) in self._ours or type(holder) is _Node or _is_ours(holder):
                continue
            self._note(holder, {id(held) for held in referents(holder)} & wanted, found)
        for key in level:  # after the others: of two roots that are as near a module says more than a frame
            for frame in self._frames.get(key, ()):
                self._note(frame, {key}, found)
        return found

    def _referrers(self, level: list[int]) -> list[Any]:
        things = tuple(self._nodes[key].thing for key in level)
        self._ours.add(id(things))  # the tuple of the arguments, which the call finds from Python 3.13 on
        referrers = gc.get_referrers(*things)
        self._ours.add(id(referrers))
        return referrers

    def _note(self, holder: object, held: set[int], found: list[int]) -> None:
        for key in held:
            self._nodes[key].holders.append(id(holder))
        if id(holder) not in self._nodes:
            self._nodes[id(holder)] = _Node(holder)
            if _is_root(holder):
                self._roots.append(id(holder))
            else:
                found.append(id(holder))

    def _connect(self) -> None:
        """Breadth first from the roots back to the targets, so that each gets its shortest way."""
        held: dict[int, list[int]] = {}
        for key, node in self._nodes.items():
            node.next = None
            for holder in node.holders:
                held.setdefault(holder, []).append(key)
        level = list(self._roots)
        seen = set(level)
        while level:
            after: list[int] = []
            for holder in level:
                for key in held.get(holder, ()):
                    if key not in seen:
                        seen.add(key)
                        self._nodes[key].next = holder
                        after.append(key)
            level = after

    def way(self, thing: object) -> list[Any]:
        """From one target to its root; only itself if none was found."""
        way = [thing]
        node = self._nodes[id(thing)]
        while node.next is not None:
            node = self._nodes[node.next]
            way.append(node.thing)
        return way

    def chain(self, thing: object) -> Chain:
        """As for every search; a root that nobody holds needs no holder."""
        if _is_root(thing) and not self._nodes[id(thing)].holders:
            return NOBODY
        return super().chain(thing)


class _FromRoots(_Search):
    """Everything that hangs on a root is looked at, the nearest first, until all targets were seen.

    What was seen stays alive until the search is over: an identity would be given to a new object otherwise.
    """

    def __init__(self, things: Sequence[object], deadline: float) -> None:
        super().__init__(deadline)
        self._missing = {id(thing) for thing in things}
        self._places: dict[int, int] = {}
        """Where each target is in the list of what was seen."""
        modules = [thing for thing in list(sys.modules.values()) if _is_root(thing) and id(thing) not in self._missing]
        frames = _running()
        self._locals = {len(modules) + number: values for number, (_, values) in enumerate(frames)}
        self._seen: list[Any] = [*modules, *(frame for frame, _ in frames)]
        self._holders = array("q", [-1] * len(self._seen))
        """Of everything that was seen, where its holder is in that list."""
        self._known = {id(thing) for thing in self._seen}
        self._known.add(id(things))  # what the search itself holds is nobody's tie

    def run(self) -> None:
        """Search until all is found, nothing is left to look at, or a limit is reached."""
        begin = 0
        while (end := len(self._seen)) > begin:
            for start in range(begin, end, _STRIDE):
                if self._is_late() or len(self._seen) > _MOST or not self._missing:
                    return
                self._look_at(start, min(end, start + _STRIDE))
            begin = end
        self.exhausted = True

    def _look_at(self, begin: int, end: int) -> None:
        """What a part of the things that were seen hold themselves. Names of the loop are local, for it is long."""
        seen, known, missing, holders, frames = self._seen, self._known, self._missing, self._holders, self._locals
        inside, is_tracked = gc.get_referents, gc.is_tracked
        for place in range(begin, end):
            thing = seen[place]
            look = referents if type(thing) is ModuleType else inside  # the other asks for that, too, but takes longer
            for held in frames[place] if place in frames else look(thing):
                key = id(held)
                if key in known or not (is_tracked(held) or key in missing):
                    continue
                known.add(key)
                seen.append(held)
                holders.append(place)
                if key in missing:
                    missing.remove(key)
                    self._places[key] = len(seen) - 1

    def way(self, thing: object) -> list[Any]:
        """From one target to its root; only itself if none was found, or only one that is too far."""
        way = [thing]
        place = self._places.get(id(thing), -1)
        while place >= 0 and (place := self._holders[place]) >= 0:
            way.append(self._seen[place])
            if len(way) > _DEPTH:
                return [thing]
        return way

    def chain(self, thing: object) -> Chain:
        """As for every search; what was seen is held by somebody, however far that is."""
        found = super().chain(thing)
        return TOO_FAR if found is NOBODY and id(thing) in self._places else found


def _held_by_running_frames() -> dict[int, list[FrameType]]:
    """Which frames hold an object as a local variable or as their globals, by the identity of the object."""
    found: dict[int, list[FrameType]] = {}
    for frame, values in _running():
        for value in values:
            found.setdefault(id(value), []).append(frame)
    return found


def _running() -> list[tuple[FrameType, list[Any]]]:
    """The frames of all threads, each with its globals and local variables.

    The collector knows nothing of running frames since Python 3.11, so ``gc.get_referrers`` does not find them.
    """
    # ours are left out: a frame that is a local variable of its own would be a cycle, and keep all others for a while
    frames = [
        frame
        for innermost in sys._current_frames().values()
        for frame in stack(innermost)
        if frame.f_globals is not globals()
    ]
    return [(frame, [frame.f_globals, *_locals(frame).values()]) for frame in frames]


def _locals(frame: FrameType) -> dict[str, Any]:
    """The local variables of a running function.

    Before Python 3.13 (https://peps.python.org/pep-0667) reading them leaves a copy in the frame, which would keep what
    the function itself lets go of. So it is emptied; not under a debugger, which writes from that copy into the frame.
    """
    seen = frame.f_locals
    if not frame.f_code.co_flags & _OPTIMIZED:  # a module or a class: its namespace, which the collector knows
        return {}
    found = dict(seen)
    traced = threading.gettrace() or threading.getprofile() or sys.gettrace() or sys.getprofile()
    if sys.version_info < (3, 13) and not traced:
        seen.clear()
    return found


_OPTIMIZED: Final = 1
"""``inspect.CO_OPTIMIZED``: the code of a function."""


def _is_ours(holder: object) -> bool:
    """Frames and iterators of this search."""
    return type(holder) in (FrameType, GeneratorType) and _globals(holder) is globals()


def _globals(holder: Any) -> Any:
    frame = holder if type(holder) is FrameType else holder.gi_frame
    return None if frame is None else frame.f_globals


def _is_root(thing: Any) -> bool:
    """Where a search may end: a module, a running frame, a class that is not on the heap's books."""
    kind = type(thing)
    if issubclass(kind, ModuleType):
        name = namespace_of(thing).get("__name__")
        return isinstance(name, str) and sys.modules.get(name) is thing
    if kind is FrameType:
        return True
    return issubclass(kind, type) and not gc.is_tracked(thing)


def _describe(way: Sequence[Any]) -> Chain:
    steps: list[str] = []
    position = 1
    while position < len(way):
        held, holder = way[position - 1], way[position]
        owner = way[position + 1] if position + 1 < len(way) else None
        if type(holder) is dict and owner is not None and namespace_of(owner) is holder:
            steps.append(name_of(owner) + _attribute(holder, held))
            position += 2
        else:
            steps.append(name_of(holder) + _edge(holder, held))
            position += 1
    steps = list(_merged(steps))
    if issubclass(type(way[-1]), ModuleType) and type(way[-2]) is dict:
        return Chain((*steps, f"module {name_of(way[-1])}"), steps[-1])
    return Chain(tuple(steps), steps[-1])


def _merged(steps: Sequence[str]) -> Iterator[str]:
    """``dict['a']`` held by ``typing._registry`` reads ``typing._registry['a']``."""
    inner = ""
    for step in steps:
        bare, bracket, key = step.partition("[")
        if bare in CONTAINERS and bracket:
            inner = f"[{key}" + inner
            continue
        yield step + inner
        inner = ""
    if inner:
        yield inner


def _edge(holder: Any, held: Any) -> str:
    """How `holder` refers to `held`, as one would write it in Python."""
    kind = type(holder)
    if issubclass(kind, dict):
        return _item(holder, held)
    for sequence in (list, tuple):
        if issubclass(kind, sequence):
            items = enumerate(sequence.__iter__(holder))
            return next((f"[{index}]" for index, item in items if item is held), _slot(holder, held))
    if issubclass(kind, set | frozenset):
        return "[...]"
    if kind is CellType:
        return ".cell_contents"
    if kind is FrameType and holder.f_globals is held:
        return ".f_globals"
    frame = holder if kind is FrameType else getattr(holder, SUSPENDED[kind]) if kind in SUSPENDED else None
    if frame is not None:
        return next((f", local {name!r}" for name, value in _locals(frame).items() if value is held), "")
    return _slot(holder, held)


def _item(holder: dict[Any, Any], held: Any) -> str:
    for key, value in list(dict.items(holder)):
        if value is held:
            return f"[{short(key)}]"
    return "[key]" if any(key is held for key in list(dict.keys(holder))) else _slot(holder, held)


def _attribute(namespace: dict[str, Any], held: Any) -> str:
    return next((f".{name}" for name, value in list(namespace.items()) if value is held), "")


_SLOTS: Final = frozenset({
    "__bases__", "__defaults__", "__dict__", "__kwdefaults__", "__self__", "__wrapped__",
    # read from 3.14 on it would be computed: https://peps.python.org/pep-0649
    *(() if sys.version_info >= (3, 14) else ("__annotations__",)),
})  # fmt: skip
"""Computed attributes of Python's own types that only look something up."""


def _slot(holder: Any, held: Any) -> str:
    """The attribute under which it is held: of the instance, or in a slot of its class; never a property."""
    if attribute := _attribute(namespace_of(holder), held):
        return attribute
    for cls in type.__dict__["__mro__"].__get__(type(holder)):
        for name, slot in list(stored_in(cls).items()):
            if type(slot) is MemberDescriptorType or (type(slot) is GetSetDescriptorType and name in _SLOTS):
                try:
                    if slot.__get__(holder) is held:
                        return f".{name}"
                except (AttributeError, TypeError, ValueError):
                    continue
    return ""
