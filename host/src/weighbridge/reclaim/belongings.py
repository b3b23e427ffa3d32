"""What belongs to a plugin: told by identity, never by asking the object."""

from __future__ import annotations

import functools
import gc
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from types import FunctionType, ModuleType
from typing import Any, Final, TypeVar

from ..accounting.modules import is_module
from ..accounting.references import stored_in
from .heap import gather
from .names import defined_in, is_any, namespace_of, qualified, referents, stored
from .snapshot import Differences
from .watch import Watched, watch

_UNCHANGED: Final = Differences()
_DEPTH: Final = 6
_MOST: Final = 10_000
"""So many things inside of one are looked at: tables of constants are nested tuples, too."""
_FROZEN: Final = 500_000
"""So many things are looked at where the collector does not list them."""
_DISGUISES: Final = frozenset({"builtins", "__main__"})
"""Modules that classes of others claim to come from, so that their names are short."""
_TYPING: Final = frozenset({"typing", "types", "typing_extensions"})
T = TypeVar("T")
LRU: Final[type] = type(functools.lru_cache(len))
CODE: Final[tuple[type, ...]] = (FunctionType, type)


class Belongings:
    """The code of some modules, everything that is made of it, and what else lives on the heap.

    Valid for as long as nothing of the plugin's has died: an identity is given to a new object afterwards.

    :param names: of the modules.
    :param heap: all live objects of some exact types, by type, by :func:`weighbridge.reclaim.heap.gather`.
    :param patches: what their load changed elsewhere.
    :param frozen: functions and classes among them that the collector itself does not see.
    """

    def __init__(
        self,
        names: Iterable[str],
        modules: Iterable[ModuleType],
        functions: Iterable[FunctionType],
        classes: Iterable[type],
        heap: Mapping[type, list[Any]],
        patches: Differences = _UNCHANGED,
        frozen: Iterable[Any] = (),
    ) -> None:
        self.names: Final = frozenset(names)
        self.modules: Final = tuple(modules)
        self.functions: Final = tuple(functions)
        self.classes: Final = tuple(classes)
        self.heap: Final = heap
        self.patches: Final = patches
        self.frozen: Final = tuple(frozen)
        self.spaces: Final = {id(namespace_of(module)) for module in self.modules}
        self.spaces.update(
            id(one.__globals__) for one in self.functions if one.__globals__.get("__name__") in self.names
        )
        self._types = {id(cls) for cls in self.classes}
        self._found: Final[dict[Callable[[Belongings], Any], Any]] = {}
        self._mark = object()
        """Stands for the name of a module, where nothing but that name is found."""
        self._things = {id(self._mark)} | self.spaces | self._types | set(map(id, (*self.modules, *self.functions)))
        self._code: Final[set[Any]] = {one for one in self.classes if type(one) is type} | set(self.functions)
        self._code.update(one for one in self.modules if type(one) is ModuleType)
        self.files: Final = {function.__code__.co_filename for function in self.functions} | {
            file for module in self.modules if type(file := namespace_of(module).get("__file__")) is str
        }

    @classmethod
    def of(cls, names: Iterable[str], kinds: Iterable[type] = (), *, patches: Differences = _UNCHANGED) -> Belongings:
        """Of the modules of these names that are in ``sys.modules``.

        :param kinds: exact types of other objects to look for on the heap.
        """
        heap = gather((*CODE, *kinds))
        wanted = frozenset(names)
        modules = [module for name in wanted if is_module(module := sys.modules.get(name))]
        spaces = {id(namespace_of(module)) for module in modules}
        if gone := wanted - sys.modules.keys():  # it took them out itself
            spaces |= {id(one.__globals__) for one in heap[FunctionType] if one.__globals__.get("__name__") in gone}
        frozen = list(_frozen(modules, wanted, heap)) if gc.get_freeze_count() else []
        for one in frozen:
            heap[FunctionType if type(one) is FunctionType else type].append(one)
        homes = wanted | _DISGUISES | {str(namespace_of(module).get("__name__")) for module in modules}
        classes = [one for one in heap[type] if defined_in(one) in homes and _is_of(one, wanted, spaces)]
        # by its globals: attrs writes the module of the last class into a function that all classes share
        functions = {id(one): one for one in heap[FunctionType] if id(one.__globals__) in spaces}
        functions |= {id(one): one for one in _written_for(classes, wanted)}
        return cls(wanted, modules, functions.values(), classes, heap, patches, frozen)

    @classmethod
    def left(
        cls,
        names: Iterable[str],
        alive: Iterable[Watched],
        kinds: Iterable[type] = (),
        *,
        patches: Differences = _UNCHANGED,
    ) -> Belongings:
        """What is left of them: of what was watched, that which is still `alive`."""
        left: dict[str, list[Any]] = {"module": [], "function": [], "class": []}
        for one in alive:
            if one.kind in left and (thing := one.reference()) is not None:
                left[one.kind].append(thing)
        return cls(names, left["module"], left["function"], left["class"], gather((*CODE, *kinds)), patches)

    def once(self, search: Callable[[Belongings], T]) -> T:
        """What a search finds, which several ties ask for. It is kept here, and so goes with these belongings."""
        if search not in self._found:
            self._found[search] = search(self)
        found: T = self._found[search]
        return found

    def watched(self) -> list[Watched]:
        """Weak references to all of the code: it has to die."""
        return [
            *(watch("module", module) for module in self.modules),
            *(watch("function", function) for function in self.functions),
            *(watch("class", cls) for cls in self.classes),
        ]

    def __contains__(self, thing: object) -> bool:
        """Whether it is code of the modules, an instance of one of their classes, or a thin wrapping of one of these.

        What is looked through: methods, partials, closures, properties, caches, tuples, type annotations, frames. Never
        a list, a dictionary or a foreign instance: those have a life of their own.
        """
        if self._is(thing):
            return True
        inside = self._inside(thing)
        if inside is _NOTHING:  # nearly everything there is
            return False
        seen: set[int] = set()
        for _ in range(_DEPTH):
            after: list[Iterable[object]] = []
            for inner in inside:
                if is_any(type(inner), _DATA):
                    continue
                if self._is(inner):
                    return True
                further = self._inside(inner)
                # the same thing may be in very many places
                if further is not _NOTHING and id(inner) not in seen and len(seen) < _MOST:
                    seen.add(id(inner))
                    after.append(further)
            if not after:
                return False
            inside = chain.from_iterable(after)
        return False

    def is_code(self, thing: object) -> bool:
        """Whether it is one of the modules, classes, functions or namespaces itself."""
        return thing in self._code if is_any(type(thing), _COMPARABLE) else id(thing) in self._things

    def _is(self, thing: object) -> bool:
        """Nearly always without a number for it, as ``id`` makes one: that is slow while memory is traced."""
        kind = type(thing)
        if is_any(kind, _COMPARABLE):
            return thing in self._code
        if type(kind) is type and kind is not dict and kind is not object and not issubclass(kind, _CODE_KINDS):
            return kind in self._code
        return id(thing) in self._things or id(kind) in self._types

    def _inside(self, thing: Any) -> Iterable[object]:
        """What is looked at in the place of a thing."""
        kind = type(thing)
        look = _THROUGH.get(kind) if type(kind) is type else None  # another class may refuse to be hashed
        if look is not None:
            return look(thing)
        if defined_in(kind) in _TYPING:
            return self._annotated(thing)
        return _trace(thing) if issubclass(kind, BaseException) else _NOTHING

    def _annotated(self, thing: Any) -> Iterable[object]:
        """Aliases, unions, type variables: made of the plugin's types, or made in its modules."""
        home = _part(thing, "__module__")
        if type(home) is str and home in self.names:
            return (self._mark,)
        names = _PARTS.get(qualified(type(thing)), ())
        return [inner for name in names if (inner := _part(thing, name)) is not None]


def _is_of(cls: type, names: frozenset[str], spaces: set[int]) -> bool:
    """By the globals of its functions, which tell generations and copies of a module apart; or by the module's name.

    A copy that was loaded beside the original has its name:
    https://docs.python.org/3/library/importlib.html#importlib.util.module_from_spec
    """
    home = defined_in(cls)
    stored = list(stored_in(cls).items())
    for _, value in stored:
        # without a spec it is no module's: SQLAlchemy runs texts in dictionaries that only have a module's name
        if (
            type(value) is FunctionType
            and value.__globals__.get("__name__") == home
            and "__spec__" in value.__globals__
        ):
            return id(value.__globals__) in spaces
    if home in names:
        return True
    methods = (one for one in stored if type(one[1]) is FunctionType and id(one[1].__globals__) in spaces)
    return any(_is_written_in(cls, home, name, method) for name, method in methods)


def _is_written_in(cls: type, home: str | None, name: str, method: FunctionType) -> bool:
    """Whether a method was written inside the class, which only says that it comes from elsewhere.

    As pytest's ``Skipped`` does, to look like a class of ``builtins``: that module has none of the name.
    """
    claimed = namespace_of(sys.modules.get(home or "")).get(qualified(cls))
    return claimed is not cls and method.__code__.co_qualname == f"{qualified(cls)}.{name}"


def _frozen(
    modules: Sequence[ModuleType], names: frozenset[str], heap: Mapping[type, list[Any]]
) -> Iterator[FunctionType | type]:
    """Functions and classes that the modules lead to and the collector does not list since ``gc.freeze``.

    https://docs.python.org/3/library/gc.html#gc.freeze
    """
    known = set(map(id, (*heap[FunctionType], *heap[type])))
    spaces = {id(namespace_of(module)) for module in modules}
    seen = {id(namespace_of(module)) for module in list(sys.modules.values()) if is_module(module)}
    waiting: list[Any] = [namespace_of(module) for module in modules]
    for owner in waiting:
        for value in referents(owner):
            is_class, is_function = issubclass(type(value), type), type(value) is FunctionType
            is_own = id(value.__globals__) in spaces if is_function else is_class and defined_in(value) in names
            if is_own and id(value) not in known:
                known.add(id(value))
                yield value
            # what is in a class or a module of others is theirs
            if id(value) not in seen and (is_own or not (is_class or is_module(value))) and len(waiting) < _FROZEN:
                seen.add(id(value))
                waiting.append(value)


def _written_for(classes: Iterable[type], names: frozenset[str]) -> Iterator[FunctionType]:
    """Functions that attrs or namedtuple wrote for one of the classes: they have namespaces of their own.

    A function of a module that stays is not one of them, even if it bears the name of the plugin's module: attrs gives
    its ``evolve`` that of each class in turn, https://github.com/python-attrs/attrs/blob/main/src/attr/_make.py.
    """
    for cls in classes:
        for value in list(stored_in(cls).values()):
            if type(value) is FunctionType and _says(value) in names and not _is_in_module(value):
                yield value


def _says(function: FunctionType) -> str:
    home: object = function.__module__  # anything may have been put there
    return home if type(home) is str else ""


def _is_in_module(function: FunctionType) -> bool:
    home = function.__globals__.get("__name__")
    return type(home) is str and namespace_of(sys.modules.get(home)) is function.__globals__


_NOTHING: Final = ()
_EMPTY: Final[dict[str, Any]] = {}
_COMPARABLE: Final = frozenset({FunctionType, ModuleType, type})
"""Equal by identity, and hashed without asking anybody."""
_CODE_KINDS: Final = (type, ModuleType)
_DATA: Final = frozenset({int, float, complex, bool, str, bytes, type(None), type(...)})
_ALIAS: Final = ("__origin__", "__args__")
_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "GenericAlias": _ALIAS,
    "UnionType": ("__args__",),
    "Union": ("__args__",),
    "_GenericAlias": _ALIAS,
    "_CallableGenericAlias": _ALIAS,
    "_UnionGenericAlias": _ALIAS,
    "_LiteralGenericAlias": _ALIAS,
    "_ConcatenateGenericAlias": _ALIAS,
    "_UnpackGenericAlias": _ALIAS,
    "_AnnotatedAlias": ("__origin__", "__metadata__"),
    "TypeVar": ("__bound__", "__constraints__"),
    "ParamSpec": ("__bound__",),
    "ParamSpecArgs": ("__origin__",),
    "ParamSpecKwargs": ("__origin__",),
    "NewType": ("__supertype__",),
}
"""What types of ``typing`` and ``types`` are made of: asking one for what it has not costs an exception each time."""


def _part(annotation: Any, name: str) -> Any:
    """An attribute of an annotation, past its ``__getattr__`` and its ``__dict__``: asking for that makes one."""
    try:
        return object.__getattribute__(annotation, name)
    except AttributeError:
        return None


def _contents(function: FunctionType) -> Iterable[object]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:
            continue
    yield stored(function, "__wrapped__")
    yield from function.__defaults__ or ()


def _trace(error: BaseException) -> Iterable[object]:
    return (BaseException.__dict__["__traceback__"].__get__(error),)


def _frames(trace: types.TracebackType) -> Iterable[object]:
    step: types.TracebackType | None = trace
    while step is not None:
        yield step.tb_frame
        step = step.tb_next


_THROUGH: Final[Mapping[type, Callable[[Any], Iterable[object]]]] = {
    FunctionType: _contents,
    types.MethodType: lambda method: (method.__self__, method.__func__),
    types.BuiltinMethodType: lambda method: () if is_module(method.__self__) else (method.__self__,),
    types.MethodWrapperType: lambda method: (method.__self__,),
    functools.partial: lambda partial: (partial.func, *partial.args, *partial.keywords.values()),
    functools.partialmethod: lambda partial: (partial.func, *partial.args, *partial.keywords.values()),
    LRU: lambda cache: (namespace_of(cache).get("__wrapped__"),),
    staticmethod: lambda method: (method.__func__,),
    classmethod: lambda method: (method.__func__,),
    property: lambda attribute: (attribute.fget, attribute.fset, attribute.fdel),
    tuple: lambda things: things,
    frozenset: lambda things: things,
    types.TracebackType: _frames,
    types.FrameType: lambda frame: (frame.f_globals,),
    types.GeneratorType: lambda one: () if one.gi_frame is None else (one.gi_frame,),
    types.CoroutineType: lambda one: () if one.cr_frame is None else (one.cr_frame,),
    types.AsyncGeneratorType: lambda one: () if one.ag_frame is None else (one.ag_frame,),
}
