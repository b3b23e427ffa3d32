"""What modules refer to, read from their global names without running any code of theirs.

Attributes are read from where they are stored, past ``__getattribute__``, and past a ``__dict__`` or ``__class__`` that
a class or a metaclass computes. Texts are told by their exact type: ``isinstance`` asks any other object for its class.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any, Final, TypeGuard

_attributes: Final = type.__dict__["__dict__"].__get__


def is_module(thing: object) -> TypeGuard[ModuleType]:
    """Whether `thing` is a module. Not ``isinstance``: that asks a lazy object for its class, which runs its code."""
    return issubclass(type(thing), ModuleType)


def namespace_of(owner: object) -> dict[str, Any]:
    """The dictionary with the attributes of a module or an instance; empty if it has none, or computes it."""
    for cls in type.__dict__["__mro__"].__get__(type(owner)) or ():  # None for one that was never made ready
        slot = stored_in(cls).get("__dict__")
        if slot is not None:
            is_stored = type(slot) is GetSetDescriptorType or type(slot) is MemberDescriptorType
            namespace = slot.__get__(owner) if is_stored else None
            return namespace if type(namespace) is dict else {}
    return {}


def stored_in(cls: type) -> Mapping[str, Any]:
    """A view of the attributes of a class, past any metaclass; empty for one of C that was never made ready.

    https://docs.python.org/3/c-api/type.html#c.PyType_Ready
    """
    view: Mapping[str, Any] | None = _attributes(cls)
    return {} if view is None else view


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
        elif kind is FunctionType:
            yield from _strings(value.__globals__.get("__name__"))
            # attrs gives its ``evolve`` the name of each class's module in turn; a wrapper calls what it is named for
            yield from _strings(value.__module__) if value.__closure__ else ()
        elif kind is BuiltinFunctionType:
            yield from _strings(value.__module__)
        else:
            home = value if issubclass(kind, type) else kind
            yield from _strings(stored_in(home).get("__module__"))


def _strings(value: object) -> Iterator[str]:
    if type(value) is str:
        yield value


def real_name(name: str) -> str:
    """The name under which the module called `name` was imported: requests has ``requests.packages.idna`` for idna."""
    module = sys.modules.get(name)
    spec = namespace_of(module).get("__spec__") if is_module(module) else None
    real = namespace_of(spec).get("name")
    return real if type(real) is str and sys.modules.get(real) is module else name
