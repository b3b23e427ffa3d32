"""Weak references to everything of a plugin that has to die."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

import attrs

from ..accounting.modules import is_module
from .names import name_of, namespace_of

Kind: TypeAlias = Literal["plugin", "module", "class", "function", "tracked", "thread", "buffer"]


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
    return frozenset(id(namespace_of(module)) for module in found if is_module(module))


def watch(kind: Kind, thing: object) -> Watched:
    """Watch one object.

    :raises TypeError: if it has no weak references.
    """
    return Watched(kind, name_of(thing), weakref.ref(thing))


def survivors(watched: Iterable[Watched]) -> list[Watched]:
    """Those that are still alive."""
    return [one for one in watched if one.reference() is not None]
