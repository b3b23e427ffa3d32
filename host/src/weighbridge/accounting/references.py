"""What modules refer to, read from their global names without running any code of theirs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, TypeGuard


def is_module(thing: object) -> TypeGuard[ModuleType]:
    """Whether `thing` is a module. Not ``isinstance``: that asks a lazy object for its class, which runs its code."""
    return issubclass(type(thing), ModuleType)


def namespace_of(module: ModuleType) -> dict[str, Any]:
    """The module's own dictionary, past any ``__getattribute__`` of a lazy module."""
    namespace: dict[str, Any] = ModuleType.__getattribute__(module, "__dict__")
    return namespace


def referenced(module: ModuleType) -> Iterator[str]:
    """Names of the modules that `module` refers to by its global names, and of its parent packages."""
    namespace = namespace_of(module)
    for name in _strings(namespace.get("__name__")):
        parent = name
        while parent := parent.rpartition(".")[0]:
            yield parent
    for value in list(namespace.values()):
        kind = type(value)
        if is_module(value):
            yield from _strings(namespace_of(value).get("__name__"))
        elif kind is FunctionType or kind is BuiltinFunctionType:
            yield from _strings(value.__module__)
        else:
            home = value if issubclass(kind, type) else kind
            yield from _strings(type.__getattribute__(home, "__dict__").get("__module__"))


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value


def real_name(name: str) -> str:
    """The name under which the module called `name` was imported: requests has ``requests.packages.idna`` for idna."""
    module = sys.modules.get(name)
    spec = namespace_of(module).get("__spec__") if is_module(module) else None
    real = getattr(spec, "name", None)
    return real if isinstance(real, str) and sys.modules.get(real) is module else name
