"""Hooks and patches that wrap one another: whose each layer is, and what is beneath it."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from types import (
    BuiltinFunctionType,
    CellType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, Final

import attrs

from ..belongings import LRU, Belongings
from ..names import is_any, name_of, namespace_of

_DEPTH: Final = 5
_CODE: Final = (FunctionType, BuiltinFunctionType, MethodType, MethodDescriptorType, WrapperDescriptorType)
_ORIGINAL: Final = re.compile(
    r"(?:^|_)(?:orig(?!in(?!al))|prev|old|saved|backup|wrapped|real|default|before)", re.IGNORECASE
)
"""At the start of a word: neither ``threshold`` nor ``typing.get_origin`` says that it is what was there before."""
_WRAPPERS: Final[Mapping[type, Callable[[Any], object]]] = {
    MethodType: lambda method: method.__func__,
    functools.partial: lambda partial: partial.func,
    LRU: lambda cache: namespace_of(cache).get("__wrapped__"),
    staticmethod: lambda method: method.__func__,
    classmethod: lambda method: method.__func__,
    property: lambda attribute: attribute.fget or attribute.fset or attribute.fdel,
}


@attrs.frozen
class Layer:
    """One reference by which a hook keeps the hook that it wraps."""

    place: str
    held: Any
    put: Callable[[Any], object]
    """Makes it keep another one."""
    says_original: bool
    """Whether its name says that it is what was there before."""


def is_own(thing: Any, belongings: Belongings) -> bool:
    """Whether it is the plugin's itself, and not a wrapper of somebody else's around something of the plugin's."""
    if belongings.is_code(thing) or belongings.is_code(type(thing)):
        return True
    kind = type(thing)
    if kind is MethodType and is_own(thing.__self__, belongings):
        return True
    if kind is property:
        return any(is_own(part, belongings) for part in (thing.fget, thing.fset, thing.fdel) if part is not None)
    if is_any(kind, _WRAPPERS):
        return is_own(_WRAPPERS[kind](thing), belongings)
    return kind is not FunctionType and not namespace_of(thing) and thing in belongings


def layers(hook: Any) -> Iterator[Layer]:
    """What a hook keeps in its closure, its attributes, its instance, and the globals that it names."""
    kind = type(hook)
    if is_any(kind, _WRAPPERS):
        if kind is MethodType:
            yield from _attributes(hook.__self__)
        yield from layers(_WRAPPERS[kind](hook))
    elif kind is FunctionType:
        name = name_of(hook)
        for variable, cell in zip(hook.__code__.co_freevars, hook.__closure__ or (), strict=False):
            yield from _cell(f"{name}, closure {variable!r}", variable, cell)
        yield from _attributes(hook)
        space = hook.__globals__
        for variable in _names(hook):
            if variable in space and type(space[variable]) is not ModuleType:
                place = f"{space.get('__name__')}.{variable}"
                yield Layer(place, space[variable], functools.partial(space.__setitem__, variable), _says(variable))
    elif not is_any(kind, _CODE) and not issubclass(kind, type):
        yield from _attributes(hook)


def _attributes(owner: Any) -> Iterator[Layer]:
    if issubclass(type(owner), type | ModuleType):
        return
    space = namespace_of(owner)
    for name, value in list(space.items()):
        place = f"{name_of(owner)}.{name}"
        yield Layer(place, value, functools.partial(space.__setitem__, name), _says(name))


def _cell(place: str, variable: str, cell: CellType) -> Iterator[Layer]:
    try:
        held = cell.cell_contents
    except ValueError:  # nothing has been put in yet
        return
    yield Layer(place, held, functools.partial(setattr, cell, "cell_contents"), _says(variable))


def _names(function: FunctionType) -> Iterator[str]:
    """Globals and attributes that the code of a function names, and those of functions defined inside it."""
    waiting = [function.__code__]
    for code in waiting:
        yield from code.co_names
        waiting.extend(constant for constant in code.co_consts if type(constant) is type(code))


def _says(name: str) -> bool:
    return _ORIGINAL.search(name) is not None


def beneath(hook: Any, belongings: Belongings, is_original: Callable[[Any], bool], depth: int = _DEPTH) -> Any:
    """What a hook of the plugin's visibly wraps and is not the plugin's; None if it is not seen.

    :param is_original: whether something is what once stood in that place, told by its name.
    """
    if depth == 0:
        return None
    found = list(layers(hook))
    foreign = [layer for layer in found if layer.held not in belongings]
    for layer in foreign:
        if is_original(layer.held):
            return layer.held
    for layer in foreign:
        if layer.says_original and _can_stand_in(layer.held, hook):
            return layer.held
    for layer in found:
        if is_own(layer.held, belongings) and layer.held is not hook and not issubclass(type(layer.held), type):
            inner = beneath(layer.held, belongings, is_original, depth - 1)
            if inner is not None:
                return inner
    return None


def _can_stand_in(thing: Any, hook: Any) -> bool:
    """Whether it is something of the kind that the hook is: code for code, a class for a class."""
    if thing is None or issubclass(type(hook), type) != issubclass(type(thing), type):
        return False
    if is_any(type(hook), _CODE):
        return is_any(type(thing), _CODE) or "__call__" in namespace_of(type(thing))
    return True


def within(hook: Any, belongings: Belongings) -> Iterator[Layer]:
    """References by which somebody else's hook, over any number of layers, keeps one of the plugin's that it wraps."""
    waiting, seen = [(hook, _DEPTH)], {id(hook)}
    for outer, depth in waiting:
        for layer in layers(outer):
            if id(layer.held) in seen:
                continue
            seen.add(id(layer.held))
            if issubclass(type(layer.held), type):
                continue
            if is_own(layer.held, belongings):
                yield layer
            elif depth and layer.held in belongings:
                waiting.append((layer.held, depth - 1))
