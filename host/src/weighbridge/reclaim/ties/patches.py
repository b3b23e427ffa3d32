"""What a plugin put into the modules and classes of others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from importlib.machinery import FrozenImporter, SourceFileLoader
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, ClassVar, Final

import attrs

from ...accounting.modules import is_module
from ...accounting.references import stored_in
from ..belongings import LRU, Belongings
from ..heap import gather
from ..names import PLAIN, defined_in, is_any, name_of, namespace_of, qualified
from .importing import is_made_by_hand
from .interpreter import HOOKS, LAST, PROMPTS, STREAMS
from .mocks import mocked
from .pristine import pristine
from .tie import Hold, Tie
from .wrapping import beneath, is_own, within

_PLAIN: Final = frozenset({
    int, float, bool, str, bytes, type(None), dict, list, set, ModuleType, GetSetDescriptorType, MemberDescriptorType,
    MethodDescriptorType, WrapperDescriptorType, ClassMethodDescriptorType,
})  # fmt: skip
_CODE: Final = frozenset({FunctionType, MethodType, staticmethod, classmethod, property, LRU, partial})
_HANDLED: Final = frozenset({
    *(("sys", name) for name in (*HOOKS, *STREAMS, *PROMPTS, *LAST)),
    *(("threading", name) for name in ("_trace_hook", "_profile_hook")),
})  # fmt: skip
"""Places that have a tie of their own."""


@attrs.frozen
class _Place:
    """An attribute of a module or of a class."""

    home: str
    """The name of the module."""
    owner: Any
    name: str
    """Of the attribute, qualified within the module."""
    attribute: str

    @property
    def words(self) -> str:
        """As one would write it."""
        return f"{self.home}.{self.name}"

    @property
    def is_standard(self) -> bool:
        """Whether it is the standard library's, which refers to no plugin by itself."""
        return self.home.partition(".")[0] in sys.stdlib_module_names

    def put(self, expected: Any, value: Any) -> None:
        """Set it, unless somebody else has changed it meanwhile."""
        if namespace_of(self.owner).get(self.attribute) is not expected:
            return
        if issubclass(type(self.owner), type):
            type.__setattr__(self.owner, self.attribute, value)
        else:
            namespace_of(self.owner)[self.attribute] = value

    def remove(self, expected: Any) -> None:
        """Take it away, unless somebody else has changed it meanwhile."""
        if namespace_of(self.owner).get(self.attribute) is not expected:
            return
        if issubclass(type(self.owner), type):
            type.__delattr__(self.owner, self.attribute)
        else:
            del namespace_of(self.owner)[self.attribute]

    def once_held(self, thing: Any) -> bool:
        """Whether something is called what stood here by itself."""
        kind = type(thing)
        if kind is FunctionType:
            return bool(thing.__module__ == self.home and thing.__qualname__ == self.name)
        if kind is BuiltinFunctionType:
            return thing.__name__ == self.attribute and thing.__self__ is self.owner
        if kind is MethodType:
            return self.once_held(thing.__func__)
        if issubclass(kind, type):
            home = defined_in(thing)
            return qualified(thing) == self.name and home is not None and home.lstrip("_") == self.home.lstrip("_")
        return False


_Items = Iterator[tuple[_Place, Any]]


def _all_in_modules(belongings: Belongings) -> list[tuple[_Place, Any]]:
    return list(_in_modules(belongings))


def _all_in_classes(belongings: Belongings) -> list[tuple[_Place, Any]]:
    return list(_in_classes(belongings))


def _in_modules(belongings: Belongings) -> _Items:
    """Attributes of modules of others that are the plugin's, or wrap something of the plugin's."""
    patched, scan = mocked(), _Scan(belongings)
    seen: set[int] = set()
    for name, module in list(sys.modules.items()):
        if not is_module(module) or id(module) in seen or not _is_others(name, module, belongings):
            continue
        seen.add(id(module))
        space = namespace_of(module)
        for attribute, value in scan.mine(space):
            if (name, attribute) not in _HANDLED and (id(module), attribute) not in patched:
                yield _Place(name, module, attribute, attribute), value


def _is_others(name: str, module: ModuleType, belongings: Belongings) -> bool:
    return module not in belongings and not is_made_by_hand(name, module, belongings)


def _in_classes(belongings: Belongings) -> _Items:
    """The same, of classes."""
    patched, scan = mocked(), _Scan(belongings)
    for cls in belongings.heap[type]:
        if belongings.is_code(cls) or cls is type or "<locals>" in qualified(cls):
            continue  # one that a function makes, such as ctypes' function types, is not patched but made like that
        for attribute, value in scan.mine(stored_in(cls)):
            if (id(cls), attribute) in patched:
                continue
            yield _Place(defined_in(cls) or "?", cls, f"{qualified(cls)}.{attribute}", attribute), value


class _Scan:
    """Tells what is the plugin's among very many values: nearly all are functions and plain data, told at a glance.

    Functions and classes without a metaclass are equal by identity. Nothing is made for each, no number as by ``id``
    and no generator: that is slow while memory is traced.
    """

    def __init__(self, belongings: Belongings) -> None:
        self._belongings = belongings
        known = belongings.once(_functions)
        self._functions: set[Any] = {one for one in belongings.heap[FunctionType] if id(one) in known}
        self._functions.update(belongings.functions)
        self._classes = {cls for cls in belongings.classes if type(cls) is type}

    def mine(self, space: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Attributes that are the plugin's, or wrap something of the plugin's; not what every class has of itself."""
        found = self._among(list(space.values()))
        for attribute, value in list(space.items()) if found else ():
            if any(value is one for one in found) and (is_any(type(value), _CODE) or not attribute.startswith("__")):
                yield attribute, value

    def _among(self, values: list[Any]) -> list[Any]:
        functions, found = self._functions, []
        for value in values:
            kind = type(value)
            if kind is FunctionType:
                if value in functions:
                    found.append(value)
            elif not is_any(kind, _PLAIN) and self._is_mine(value, kind):
                found.append(value)
        return found

    def _is_mine(self, value: Any, kind: type) -> bool:
        if kind is type:
            return value in self._classes
        if issubclass(kind, type):
            return self._belongings.is_code(value)
        if kind is BuiltinFunctionType and type(value.__self__) is ModuleType:
            return False
        if kind is property:
            return self._is_accessor(value.fget) or self._is_accessor(value.fset) or self._is_accessor(value.fdel)
        return not (kind is tuple and _is_data(value)) and value in self._belongings

    def _is_accessor(self, value: Any) -> bool:
        kind = type(value)
        return value in self._functions if kind is FunctionType else value is not None and value in self._belongings


def _functions(belongings: Belongings) -> set[int]:
    """Identities of all functions that are the plugin's or wrap something of the plugin's."""
    wrapping = (one for one in belongings.heap[FunctionType] if _wraps(one) and one in belongings)
    return {id(one) for one in (*belongings.functions, *wrapping)}


def _wraps(function: FunctionType) -> bool:
    """Whether there is anything in it but plain data; of very many functions nearly all are told by that."""
    return function.__closure__ is not None or not (function.__defaults__ is None or _is_data(function.__defaults__))


def _is_data(values: tuple[Any, ...]) -> bool:
    for value in values:  # no generator: that is slow while memory is traced
        kind = type(value)
        if not is_any(kind, PLAIN):
            return False
    return True


def _module_items(belongings: Belongings) -> _Items:
    return _unchanged(belongings.once(_all_in_modules))


def _class_items(belongings: Belongings) -> _Items:
    return _unchanged(belongings.once(_all_in_classes))


def _unchanged(items: Iterable[tuple[_Place, Any]]) -> _Items:
    for place, value in items:
        if namespace_of(place.owner).get(place.attribute) is value:
            yield place, value


class _Patches(Tie):
    """Where the original is known, or where nothing but the plugin can have put it."""

    items: ClassVar[Callable[[Belongings], _Items]]

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """The original is put back, and what was added is taken away; only if it still is the plugin's."""
        for place, value in type(self).items(belongings):
            if is_own(value, belongings):
                if hold := _restoring(place, value, belongings):
                    yield hold
                continue
            for layer in within(value, belongings):
                original = beneath(layer.held, belongings, place.once_held)
                original = _living(place, belongings) if original is None else original
                held = name_of(layer.held)
                if original is None:
                    note = f"a patch of {place.words} by somebody else wraps it, and what it replaced is not known"
                    yield Hold(place=layer.place, held=held, cut=None, note=note)
                else:
                    note = f"a patch of {place.words} by somebody else wraps it, and wraps now the original"
                    yield Hold(place=layer.place, held=held, cut=partial(layer.put, original), note=note)


class PatchedModules(_Patches):
    """A function or class in a module of others, replaced by the plugin's; or added to the standard library."""

    name = "patched module"
    sentence = "the plugin replaced an attribute of somebody else's module; put the original back on deactivation"
    kinds = (FunctionType, type, LRU)
    items = _module_items


class PatchedClasses(_Patches):
    """The same with a class of others."""

    name = "patched class"
    sentence = "the plugin replaced an attribute of somebody else's class; put the original back on deactivation"
    kinds = (FunctionType, type, LRU)
    items = _class_items


class _Left(Tie):
    """What may as well be the application's own doing: ``from plugin import thing``."""

    safe = False
    items: ClassVar[Callable[[Belongings], _Items]]

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """Attributes that nothing is known to have stood in before; they are taken away."""
        for place, value in type(self).items(belongings):
            if is_own(value, belongings) and not place.is_standard and _restoring(place, value, belongings) is None:
                yield Hold(place=place.words, held=name_of(value), cut=partial(place.remove, value))


class ModuleAttributes(_Left):
    """An attribute of a module of others that refers to the plugin."""

    name = "module attribute"
    sentence = "an attribute of somebody else's module refers to the plugin: it was put there, or imported from it"
    items = _module_items


class ClassAttributes(_Left):
    """The same of a class."""

    name = "class attribute"
    sentence = "an attribute of somebody else's class refers to the plugin"
    kinds = (type,)
    items = _class_items


def _restoring(place: _Place, value: Any, belongings: Belongings) -> Hold | None:
    """How to undo a patch; None if it is no patch, as far as one can see."""
    held = name_of(value)
    change = belongings.patches.at(place.home, place.name, value)
    if change is not None and change.was_absent:
        return Hold(place=place.words, held=held, cut=partial(place.remove, value), note="it was added, and is gone")
    original = None if change is None else change.original()
    if original is None or original in belongings:
        original = beneath(value, belongings, place.once_held)
    if original is None:
        original = _living(place, belongings)
    if original is not None:
        cut = partial(place.put, value, _dressed(original, value, place))
        return Hold(place=place.words, held=held, cut=cut, note="the original is back")
    if not place.is_standard:
        return None
    if _was_added(place):
        return Hold(place=place.words, held=held, cut=partial(place.remove, value), note="it was added, and is gone")
    return Hold(place=place.words, held=held, cut=None, note="what it replaced is not known")


def _dressed(original: Any, patch: Any, place: _Place) -> Any:
    """As it stands in a class: a method that was read from a class is bound, a static one is bare."""
    if not issubclass(type(place.owner), type):
        return original
    if type(original) is MethodType and original.__self__ is place.owner:
        return classmethod(original.__func__)
    if type(patch) in (staticmethod, classmethod) and type(original) is FunctionType:
        return type(patch)(original)
    return original


def _living(place: _Place, belongings: Belongings) -> Any:
    """The one living function or class of that name that is somebody else's; None if there is none, or several."""
    copy = pristine(place.owner)
    if copy is not None:
        return copy.get(place.attribute)
    found = [one for one in _candidates(place, belongings) if place.once_held(one) and one not in belongings]
    wrapped = {id(namespace_of(one).get("__wrapped__")) for one in found}
    outermost = [one for one in found if id(one) not in wrapped]
    if len(outermost) != 1:
        return None
    # a function that was decorated is not what stood there
    caches = [one for one in belongings.heap.get(LRU, ()) if namespace_of(one).get("__wrapped__") is outermost[0]]
    return caches[0] if caches else outermost[0]


def _candidates(place: _Place, belongings: Belongings) -> Iterator[Any]:
    home = namespace_of(sys.modules.get(place.home))
    for function in belongings.heap[FunctionType]:
        if function.__globals__ is home or _is_standard(function.__globals__.get("__name__")):
            yield function
    if issubclass(type(place.owner), ModuleType):
        yield from belongings.heap[type]
        yield from gather((BuiltinFunctionType,))[BuiltinFunctionType]


def _is_standard(home: object) -> bool:
    return isinstance(home, str) and home.partition(".")[0] in sys.stdlib_module_names


def _was_added(place: _Place) -> bool:
    """Whether no code of the module so much as names it; False if that cannot be seen."""
    copy = pristine(place.owner)
    if copy is not None:
        return place.attribute not in copy
    code = _code_of(place.home)
    if code is None:
        return False
    codes = [code]
    for one in codes:
        if ("*",) in one.co_consts or place.attribute in one.co_names:
            return False
        codes.extend(_nested(one.co_consts))
    return True


def _nested(constants: Iterable[Any]) -> Iterator[CodeType]:
    return (constant for constant in constants if type(constant) is CodeType)


def _code_of(module: str) -> CodeType | None:
    """As the interpreter would run it; nothing is run."""
    loader = getattr(namespace_of(sys.modules.get(module)).get("__spec__"), "loader", None)
    if type(loader) is not SourceFileLoader and loader is not FrozenImporter:
        return None
    try:
        return loader.get_code(module)
    except (ImportError, OSError, SyntaxError):
        return None
