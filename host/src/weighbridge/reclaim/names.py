"""What things are called, without asking them: an attribute of a strange object may run its code."""

from __future__ import annotations

import gc
from collections.abc import Mapping
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

_SHORT: Final = 60


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


def namespace_of(owner: Any) -> dict[str, Any]:
    """The dictionary with the attributes of a module, an instance, a function or a class; empty if it has none."""
    if issubclass(type(owner), type):
        proxy = type.__dict__["__dict__"].__get__(owner)
        return next((held for held in gc.get_referents(proxy) if type(held) is dict), {})
    try:
        namespace = object.__getattribute__(owner, "__dict__")
    except (AttributeError, TypeError):
        return {}
    return namespace if type(namespace) is dict else {}


def name_of(thing: Any) -> str:
    """What a person would call it: code by its qualified name, anything else by its type."""
    kind = type(thing)
    if issubclass(kind, ModuleType):
        return str(namespace_of(thing).get("__name__", "module"))
    if issubclass(kind, type):
        return f"{defined_in(thing)}.{qualified(thing)}"
    if kind is FunctionType:
        return f"{thing.__module__}.{thing.__qualname__}"
    if kind is FrameType:
        return f"frame of {thing.f_code.co_qualname} at {thing.f_code.co_filename}:{thing.f_lineno}"
    if kind is MethodType:
        function = thing.__func__
        return f"bound method {function.__qualname__ if type(function) is FunctionType else name_of(type(function))}"
    if kind is BuiltinFunctionType:
        return f"built-in {thing.__qualname__}"
    if kind in SUSPENDED:
        return f"suspended {kind.__name__} {thing.__qualname__}"
    home, name = defined_in(kind), qualified(kind)
    return name if home == "builtins" or name in CONTAINERS else f"{home}.{name}"


SUSPENDED: Final[Mapping[type, str]] = {
    GeneratorType: "gi_frame",
    CoroutineType: "cr_frame",
    AsyncGeneratorType: "ag_frame",
}
"""Where each of them keeps its frame."""
CONTAINERS: Final = frozenset({"dict", "list", "tuple", "set", "frozenset", "defaultdict", "OrderedDict", "deque"})
_PLAIN: Final = frozenset({str, bytes, int, float, bool, type(None)})


def short(key: object) -> str:
    """A key for people: never the repr of a strange object, which would run its code."""
    if type(key) not in _PLAIN:
        return f"<{qualified(type(key))}>"
    text = repr(key)
    return text if len(text) <= _SHORT else text[: _SHORT - 3] + "..."
