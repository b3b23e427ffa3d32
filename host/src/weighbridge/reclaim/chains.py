"""Who holds an object: the shortest chain of references from a root, in words.

All objects in question are explained by one search, level by level: one call of ``gc.get_referrers`` with a whole level
costs a single walk over the heap, where a search for each object (as ``objgraph.find_backref_chain`` does it) costs a
walk for every node that it visits. Nothing is kept: the search ends with text.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from types import CellType, CoroutineType, FrameType, FunctionType, GeneratorType, MethodType, ModuleType
from typing import Any, Final

import attrs
import objgraph

_DEPTH: Final = 20
_WIDEST: Final = 20_000
_SHORT: Final = 60


@attrs.frozen
class Chain:
    """How a root holds an object.

    ``steps`` go from the object's holder to the root. ``tie`` names the place nearest to the root that a person would
    recognise, such as ``typing._overload_registry``.
    """

    steps: tuple[str, ...]
    tie: str


NOBODY: Final = Chain((), "no holder that Python can see: a C library, or a reference in compiled code")
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
    search = _Search(things)
    search.run(time.monotonic() + seconds)
    return [search.chain(thing) for thing in things]


class _Search:
    def __init__(self, things: Sequence[object]) -> None:
        self._nodes = {id(thing): _Node(thing) for thing in things}
        self._targets = frozenset(self._nodes)
        self._roots: list[int] = []
        self._exhausted = False
        # what the search itself holds is nobody's tie
        self._ours = {id(things), id(self), id(self.__dict__), id(self._nodes), id(self._roots)}

    def run(self, deadline: float) -> None:
        """Widen the circle of holders until every target hangs on a root, or a limit is reached."""
        level = list(self._nodes)
        for _ in range(_DEPTH):
            level = self._holders(level)
            self._connect()
            if not level:
                self._exhausted = True
                return
            if time.monotonic() > deadline or len(self._nodes) > _WIDEST:
                return
            if all(self._nodes[target].next is not None for target in self._targets):
                return

    def _holders(self, level: list[int]) -> list[int]:
        """The nodes that hold a node of `level` and were not known; roots are noted and not looked behind."""
        things = [self._nodes[key].thing for key in level]
        wanted = set(level)
        found: list[int] = []
        self._ours |= {id(things), id(level), id(wanted), id(found)}
        referrers = gc.get_referrers(*things)
        self._ours.add(id(referrers))
        for holder in referrers:
            if id(holder) in self._ours or isinstance(holder, _Node) or _is_ours(holder):
                continue
            for key in {id(held) for held in gc.get_referents(holder)} & wanted:
                self._nodes[key].holders.append(id(holder))
            if id(holder) not in self._nodes:
                self._nodes[id(holder)] = _Node(holder)
                if _is_root(holder):
                    self._roots.append(id(holder))
                else:
                    found.append(id(holder))
        return found

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

    def chain(self, thing: object) -> Chain:
        """The way from one target to its root, in words."""
        way = [thing]
        node = self._nodes[id(thing)]
        if _is_root(thing) and not node.holders:
            return NOBODY
        while node.next is not None:
            node = self._nodes[node.next]
            way.append(node.thing)
        if len(way) == 1:
            return NOBODY if self._exhausted else TOO_FAR
        return _describe(way)


def _is_ours(holder: object) -> bool:
    """Frames and iterators of this search."""
    return isinstance(holder, FrameType) and holder.f_globals is globals()


def _is_root(thing: object) -> bool:
    """Where a search may end: a module, a running frame, a class that is not on the heap's books."""
    if isinstance(thing, ModuleType):
        return objgraph.is_proper_module(thing) or thing is sys.modules.get(getattr(thing, "__name__", ""))
    if isinstance(thing, FrameType):
        return True
    return isinstance(thing, type) and not gc.is_tracked(thing)


def _describe(way: Sequence[Any]) -> Chain:
    steps: list[str] = []
    position = 1
    while position < len(way):
        held, holder = way[position - 1], way[position]
        owner = way[position + 1] if position + 1 < len(way) else None
        if isinstance(holder, dict) and owner is not None and _is_namespace(holder, owner):
            steps.append(_name(owner) + _attribute(holder, held))
            position += 2
        else:
            steps.append(_name(holder) + _edge(holder, held))
            position += 1
    steps = list(_merged(steps))
    if isinstance(way[-1], ModuleType) and isinstance(way[-2], dict):
        return Chain((*steps, f"module {way[-1].__name__}"), steps[-1])
    return Chain(tuple(steps), steps[-1])


def _merged(steps: Sequence[str]) -> Iterator[str]:
    """``dict['a']`` held by ``typing._registry`` reads ``typing._registry['a']``."""
    inner = ""
    for step in steps:
        bare, bracket, key = step.partition("[")
        if bare in _CONTAINERS and bracket:
            inner = f"[{key}" + inner
            continue
        yield step + inner
        inner = ""
    if inner:
        yield inner


_CONTAINERS: Final = frozenset({"dict", "list", "tuple", "set", "frozenset", "defaultdict", "OrderedDict", "deque"})


def _is_namespace(holder: dict[Any, Any], owner: Any) -> bool:
    try:
        return object.__getattribute__(owner, "__dict__") is holder
    except (AttributeError, TypeError):
        return False


def _name(thing: Any) -> str:
    if isinstance(thing, ModuleType):
        return str(getattr(thing, "__name__", "module"))
    if isinstance(thing, type):
        return f"{thing.__module__}.{type.__getattribute__(thing, '__qualname__')}"
    if isinstance(thing, FunctionType):
        return f"{thing.__module__}.{thing.__qualname__}"
    if isinstance(thing, FrameType):
        return f"frame of {thing.f_code.co_qualname} at {thing.f_code.co_filename}:{thing.f_lineno}"
    if isinstance(thing, MethodType):
        return f"bound method {thing.__func__.__qualname__}"
    if isinstance(thing, CoroutineType | GeneratorType):
        return f"suspended {type(thing).__name__} {thing.__qualname__}"
    cls = type(thing)
    return (
        cls.__qualname__
        if cls.__module__ == "builtins" or cls.__qualname__ in _CONTAINERS
        else f"{cls.__module__}.{cls.__qualname__}"
    )


def _edge(holder: Any, held: Any) -> str:
    """How `holder` refers to `held`, as one would write it in Python."""
    if isinstance(holder, Mapping) and isinstance(holder, dict):
        return _item(holder, held)
    if isinstance(holder, list | tuple):
        return next((f"[{index}]" for index, item in enumerate(holder) if item is held), "[?]")
    if isinstance(holder, set | frozenset):
        return "[...]"
    if isinstance(holder, CellType):
        return ".cell_contents"
    if isinstance(holder, FrameType):
        return next((f", local {name!r}" for name, value in list(holder.f_locals.items()) if value is held), "")
    return _slot(holder, held)


def _item(holder: dict[Any, Any], held: Any) -> str:
    for key, value in list(holder.items()):
        if value is held:
            return f"[{_short(key)}]"
    return "[key]"


def _attribute(namespace: dict[Any, Any], held: Any) -> str:
    return next((f".{name}" for name, value in list(namespace.items()) if value is held), "")


_SLOTS: Final = (
    "__globals__", "__closure__", "__defaults__", "__kwdefaults__", "__annotations__", "__dict__", "__wrapped__",
    "__self__", "__func__", "__bases__", "__mro__", "__origin__", "__args__", "func", "args", "gi_frame", "cr_frame",
)  # fmt: skip


def _slot(holder: Any, held: Any) -> str:
    try:
        namespace = object.__getattribute__(holder, "__dict__")
    except (AttributeError, TypeError):
        namespace = {}
    for name, value in list(namespace.items()) if isinstance(namespace, Mapping) else ():
        if value is held:
            return f".{name}"
    for name in _SLOTS:
        try:
            if object.__getattribute__(holder, name) is held:
                return f".{name}"
        except (AttributeError, TypeError):
            continue
    return ""


def _short(key: object) -> str:
    """A key for people: never the repr of a strange object, which would run its code."""
    if not isinstance(key, str | bytes | int | float | bool | type(None)):
        return f"<{type(key).__name__}>"
    text = repr(key)
    return text if len(text) <= _SHORT else text[: _SHORT - 3] + "..."
