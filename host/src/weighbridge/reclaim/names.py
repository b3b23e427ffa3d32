"""What things are called, without asking them: an attribute of a strange object may run its code."""

from __future__ import annotations

import gc
from collections.abc import Container, Mapping
from types import (
    AsyncGeneratorType,
    BuiltinFunctionType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    MethodType,
    ModuleType,
)
from typing import Any, Final

from ..accounting import references
from ..accounting.references import stored_in

_SHORT: Final = 60
_module: Final = type.__dict__["__module__"].__get__
_qualname: Final = type.__dict__["__qualname__"].__get__


def defined_in(cls: type) -> str | None:
    """The module that a class was defined in, past any metaclass."""
    try:
        home = _module(cls)
    except AttributeError:
        return None
    return home if type(home) is str else None


def qualified(cls: type) -> str:
    """The qualified name of a class, past any metaclass."""
    name: str = _qualname(cls)
    return name


def namespace_of(owner: Any) -> dict[str, Any]:
    """The dictionary with the attributes of a module, an instance, a function or a class; empty if it has none."""
    if issubclass(type(owner), type):
        return next((held for held in gc.get_referents(stored_in(owner)) if type(held) is dict), {})
    return references.namespace_of(owner)


def referents(thing: object) -> list[Any]:
    """What the collector sees in a thing; in a module only its dictionary.

    ``_asyncio`` of Python 3.12 also shows the objects that it has freed and keeps for later. Whoever takes one up and
    lets it go frees it twice, and the collector then goes round in circles for ever:
    https://github.com/python/cpython/blob/3.12/Modules/_asynciomodule.c (``module_traverse``, ``fi_freelist``)
    """
    if issubclass(type(thing), ModuleType):
        return [references.namespace_of(thing)]
    return gc.get_referents(thing)


def is_any(kind: type, kinds: Container[object]) -> bool:
    """Whether a type is one of some of Python's own; no metaclass is asked to hash or to compare a class of its own."""
    return type(kind) is type and kind in kinds


def stored(function: FunctionType, name: str) -> Any:
    """What stands in the ``__dict__`` of a function, such as what ``functools.wraps`` left there; None if nothing does.

    Without asking for that ``__dict__``, which would make one, for thousands of functions.
    """
    for held in gc.get_referents(function):
        if type(held) is dict and held is not function.__globals__ and name in held:
            return held[name]
    return None


def name_of(thing: Any) -> str:
    """What a person would call it: code by its qualified name, anything else by its type."""
    kind = type(thing)
    if issubclass(kind, ModuleType):
        return _text(namespace_of(thing).get("__name__"), "module")
    if issubclass(kind, type):
        return f"{defined_in(thing)}.{qualified(thing)}"
    if kind is FunctionType:
        return f"{_text(thing.__module__, '?')}.{thing.__qualname__}"
    if kind is FrameType:
        return f"frame of {thing.f_code.co_qualname} at {thing.f_code.co_filename}:{thing.f_lineno}"
    if kind is MethodType:
        function = thing.__func__
        return f"bound method {function.__qualname__ if type(function) is FunctionType else name_of(type(function))}"
    if kind is BuiltinFunctionType:
        return f"built-in {_built_in(thing)}"
    if is_any(kind, SUSPENDED):
        return f"suspended {kind.__name__} {thing.__qualname__}"
    home, name = defined_in(kind), qualified(kind)
    return name if home == "builtins" or name in CONTAINERS else f"{home}.{name}"


def _text(name: object, otherwise: str) -> str:
    return name if type(name) is str else otherwise


def _built_in(function: BuiltinFunctionType) -> str:
    """Its ``__qualname__``, which Python would compute by asking the class of the instance."""
    owner: Any = function.__self__
    if owner is None or issubclass(type(owner), ModuleType):
        return function.__name__
    return f"{qualified(owner if issubclass(type(owner), type) else type(owner))}.{function.__name__}"


SUSPENDED: Final[Mapping[type, str]] = {
    GeneratorType: "gi_frame",
    CoroutineType: "cr_frame",
    AsyncGeneratorType: "ag_frame",
}
"""Where each of them keeps its frame."""
CONTAINERS: Final = frozenset({"dict", "list", "tuple", "set", "frozenset", "defaultdict", "OrderedDict", "deque"})
PLAIN: Final = frozenset({str, bytes, int, float, bool, type(None)})


def short(key: object) -> str:
    """A key for people: never the repr of a strange object, which would run its code."""
    if not is_any(type(key), PLAIN):
        return f"<{qualified(type(key))}>"
    text = repr(key)
    return text if len(text) <= _SHORT else text[: _SHORT - 3] + "..."
