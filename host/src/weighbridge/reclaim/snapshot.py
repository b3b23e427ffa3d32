"""What a load changes in modules of the standard library: their dictionaries before, compared with those after."""

from __future__ import annotations

import operator
import sys
import weakref
from collections.abc import Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, MethodDescriptorType, ModuleType, WrapperDescriptorType
from typing import Any, Final

import attrs

from ..accounting.modules import is_module
from .names import defined_in, is_any, namespace_of

_BUILT_IN: Final = frozenset({BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType})
_PLAIN: Final = frozenset({int, float, complex, bool, str, bytes, type(None), type(...), type(NotImplemented)})


@attrs.frozen
class Change:
    """One attribute of a module that a load replaced or added."""

    module: str
    attribute: str
    was_absent: bool
    patched: int
    """The identity of what stands there since; valid only as long as that lives."""
    _original: Any = attrs.field(repr=False)

    def original(self) -> Any:
        """What stood there before; None if it has died since, or if there was nothing."""
        return self._original() if type(self._original) is weakref.ref else self._original


@attrs.frozen
class Differences:
    """What a load changed, as far as its unload has to know.

    It holds nothing but what the standard library has itself; anything else it refers to weakly.

    :ivar changes: what was replaced or added in modules of the standard library; plain data and the attributes that
        submodules became are left out.
    :ivar by_hand: names of modules that somebody had put into ``sys.modules`` before, without an import.
    """

    changes: tuple[Change, ...] = ()
    by_hand: frozenset[str] = frozenset()

    def at(self, module: str, attribute: str, value: object) -> Change | None:
        """The change by which `value`, which stands there now, came there."""
        for change in self.changes:
            if (change.module, change.attribute, change.patched) == (module, attribute, id(value)):
                return change
        return None


@attrs.frozen
class Snapshot:
    """Shallow copies of the dictionaries of standard-library modules. Keep it for the length of one load only."""

    _spaces: Mapping[str, dict[str, Any]] = attrs.field(repr=False)
    _by_hand: frozenset[str] = frozenset()

    @classmethod
    def take(cls) -> Snapshot:
        """Of every standard-library module that has been imported."""
        modules = [(name, module) for name, module in list(sys.modules.items()) if is_module(module)]
        by_hand = (name for name, module in modules if namespace_of(module).get("__spec__") is None)
        return cls({name: dict(space) for name, space in _spaces()}, frozenset(by_hand))

    def differences(self) -> Differences:
        """What is not as it was."""
        return Differences(tuple(self._changes()), self._by_hand)

    def _changes(self) -> Iterator[Change]:
        for name, space in _spaces():
            before = self._spaces.get(name)
            if before is None:  # imported since: whoever did that may have changed it, and nobody knows
                continue
            if _is_same(before, space):
                continue
            for attribute, value in list(space.items()):
                known = before.get(attribute, _ABSENT)
                if known is not value and not is_any(type(value), _PLAIN) and not issubclass(type(value), ModuleType):
                    was_absent = known is _ABSENT
                    yield Change(name, attribute, was_absent, id(value), None if was_absent else _held(known))


_ABSENT: Final = object()


def _is_same(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether nothing was put in, taken out or replaced: nearly always, and told without asking any object."""
    if len(before) != len(after) or any(map(operator.is_not, before.values(), after.values())):
        return False
    return not any(map(operator.is_not, before, after))


def _spaces() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in sys.stdlib_module_names and is_module(module):
            yield name, namespace_of(module)


def _held(original: Any) -> Any:
    """Itself if it is the standard library's, or else a weak reference: it may be the patch of another plugin."""
    if _is_standard(original):
        return original
    try:
        return weakref.ref(original)
    except TypeError:
        return None


def _is_standard(thing: Any) -> bool:
    kind = type(thing)
    if is_any(kind, _PLAIN) or is_any(kind, _BUILT_IN):
        return True
    if kind is FunctionType:
        home = thing.__globals__.get("__name__")
        return not thing.__closure__ and "__wrapped__" not in namespace_of(thing) and _is_in_library(home)
    return issubclass(kind, type) and _is_in_library(defined_in(thing))


def _is_in_library(home: object) -> bool:
    return type(home) is str and home.partition(".")[0] in sys.stdlib_module_names
