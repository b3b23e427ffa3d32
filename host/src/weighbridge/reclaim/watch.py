"""Weak references to everything of a plugin that has to die."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterable
from types import FunctionType, ModuleType
from typing import Any, Final, Literal, TypeAlias, TypeGuard

import attrs

_LONG_SECONDS: Final = 60.0
Kind: TypeAlias = Literal["plugin", "module", "class", "function", "tracked", "thread"]


@attrs.frozen
class Watched:
    """One thing that has to die: what it is and what it is called, but not the thing itself."""

    kind: Kind
    name: str
    reference: weakref.ref[Any]


def namespaces(modules: Iterable[str]) -> frozenset[int]:
    """Identities of the global namespaces of modules, by which frames tell whose code they run.

    Not the names: after a reload the old and the new generation have the same ones.
    """
    found = (sys.modules.get(name) for name in modules)
    return frozenset(id(ModuleType.__getattribute__(module, "__dict__")) for module in found if _is_module(module))


def watch_code(modules: Iterable[str]) -> list[Watched]:
    """Watch modules, and every class and function that was defined in them, wherever it is now.

    One walk over all live objects: 88 ms per million (``docs/accounting.md``).
    """
    names = frozenset(modules)
    spaces = namespaces(names)
    watched = [
        Watched("module", name, weakref.ref(module)) for name in names if _is_module(module := sys.modules.get(name))
    ]
    for thing in _code():
        if type(thing) is FunctionType:
            # by its globals: attrs writes the module of the last class into a function that all classes share
            if id(thing.__globals__) in spaces:
                watched.append(Watched("function", f"{thing.__module__}.{thing.__qualname__}", weakref.ref(thing)))
        elif (home := defined_in(thing)) in names:
            watched.append(Watched("class", f"{home}.{qualified(thing)}", weakref.ref(thing)))
    return watched


def _code() -> list[Any]:
    """Every function and every class that is alive.

    Told by exact type: asking an unknown object for an attribute could run its code. No other object is held for longer
    than the walk takes, and no other thread runs meanwhile: a tuple that one of them is building cannot grow while it
    is held (https://github.com/python/cpython/issues/59313).
    """
    kinds = {id(kind) for kind in (FunctionType, *_metaclasses())}  # by identity: not every class can be hashed
    interval = sys.getswitchinterval()
    sys.setswitchinterval(_LONG_SECONDS)
    try:
        things = gc.get_objects()
        return [thing for thing, kind in zip(things, map(id, map(type, things)), strict=True) if kind in kinds]
    finally:
        things = []
        sys.setswitchinterval(interval)


def _metaclasses() -> list[type]:
    """Every metaclass there is; one with two bases is listed twice."""
    found: list[type] = [type]
    for metaclass in found:
        found.extend(type.__subclasses__(metaclass))
    return found


def _is_module(thing: object) -> TypeGuard[ModuleType]:
    """Not ``isinstance``: that asks a lazy object for its class, which runs its code."""
    return issubclass(type(thing), ModuleType)


def defined_in(cls: type) -> str | None:
    """The module that a class was defined in, past any metaclass."""
    try:
        home = type.__dict__["__module__"].__get__(cls)
    except AttributeError:
        return None
    return home if isinstance(home, str) else None


def qualified(cls: type) -> str:
    """The qualified name of a class, past any metaclass."""
    name: str = type.__dict__["__qualname__"].__get__(cls)
    return name


def watch(kind: Kind, thing: object) -> Watched:
    """Watch one object.

    :raises TypeError: if it has no weak references.
    """
    cls = type(thing)
    return Watched(kind, f"{defined_in(cls)}.{qualified(cls)}", weakref.ref(thing))


def survivors(watched: Iterable[Watched]) -> list[Watched]:
    """Those that are still alive."""
    return [one for one in watched if one.reference() is not None]
