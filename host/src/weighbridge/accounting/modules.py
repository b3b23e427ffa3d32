"""The books on modules: who brought each of them in, and who uses it.

A module that two plugins use is shared: it is on the books once, under neither of them, and it goes when the last of
them has gone.
"""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, Final, Literal, TypeAlias, TypeGuard

import attrs

from .imports import ModuleWeight

Kind: TypeAlias = Literal["own", "dependency", "stdlib"]
Kept: TypeAlias = Literal["shared", "dependency", "compiled", "outside", "declared"]
"""Why a module stays: another plugin uses it; it is a dependency that was not asked to go; its package has a compiled
module, which cannot be loaded twice; something that is no plugin refers to it; the plugin's manifest says that it
cannot go."""
_SHARED: Final[Kept] = "shared"
_UNASKED: Final[Kept] = "dependency"
_DECLARED: Final[Kept] = "declared"
_FAILED: Final = ("compiled", "declared")
"""Reasons that count against the share that came back."""


@attrs.frozen
class Departure:
    """Which modules go with a plugin, and which of those that it used stay, and why."""

    dropped: tuple[str, ...]
    kept: Mapping[str, Kept]
    excused_bytes: int = 0
    """Traced bytes that its load brought in and that rightly stay, less those dropped that other loads brought in."""
    stdlib_bytes: int | None = None
    """Of those, of modules of the standard library."""

    @property
    def compiled(self) -> tuple[str, ...]:
        """Those that were to go and cannot."""
        return self._because("compiled")

    @property
    def declared(self) -> tuple[str, ...]:
        """Those that stay because the manifest says so."""
        return self._because("declared")

    def _because(self, reason: Kept) -> tuple[str, ...]:
        return tuple(sorted(name for name, why in self.kept.items() if why == reason))


@attrs.define
class _Entry:
    weight: ModuleWeight
    brought_by: str | None
    """None once that load is over: a later load of the same plugin has not brought it."""
    kind: Kind
    users: set[str]


def classify(name: str, own: str) -> Kind:
    """Whether a module is the plugin's `own` package (dotted name), the standard library's, or a dependency's."""
    if name == own or name.startswith(own + "."):
        return "own"
    if name.partition(".")[0] in sys.stdlib_module_names:
        return "stdlib"
    return "dependency"


def own_package(module: str) -> str:
    """The outermost package of `module` that is not a namespace package: what one distribution owns.

    Ask when its import was tried: only then can namespace packages be told from others.
    """
    parts = module.split(".")
    for end in range(1, len(parts)):
        name = ".".join(parts[:end])
        loaded = sys.modules.get(name)
        if not is_module(loaded) or _namespace(loaded).get("__file__") is not None:
            return name
    return module


def is_module(thing: object) -> TypeGuard[ModuleType]:
    """Whether `thing` is a module. Not ``isinstance``: that asks a lazy object for its class, which runs its code."""
    return issubclass(type(thing), ModuleType)


def is_extension(module: object) -> bool:
    """Whether a module is compiled: such a one cannot be loaded a second time."""
    spec = _namespace(module).get("__spec__") if is_module(module) else None
    return isinstance(getattr(spec, "loader", None), importlib.machinery.ExtensionFileLoader)


def referenced(module: ModuleType) -> Iterator[str]:
    """Names of the modules that `module` refers to by its global names, and of its parent packages."""
    namespace = _namespace(module)
    for name in _strings(namespace.get("__name__")):
        parent = name
        while parent := parent.rpartition(".")[0]:
            yield parent
    for value in list(namespace.values()):
        kind = type(value)
        if is_module(value):
            yield from _strings(_namespace(value).get("__name__"))
        elif kind is FunctionType or kind is BuiltinFunctionType:
            yield from _strings(value.__module__)
        else:
            home = value if issubclass(kind, type) else kind
            yield from _strings(type.__getattribute__(home, "__dict__").get("__module__"))


def _bound(optional: set[str], idle: set[str]) -> dict[str, Kept]:
    """Which of the `optional` modules stay: whole packages that are compiled or referred to by what is not `idle`."""
    reasons: dict[str, Kept] = {_top(name): "compiled" for name in optional if is_extension(sys.modules.get(name))}
    for name, module in list(sys.modules.items()):
        if name not in idle and is_module(module):
            for other in referenced(module):
                if other in optional:
                    reasons.setdefault(_top(other), "outside")
    waiting = list(reasons)
    while waiting:
        package = waiting.pop()
        for other in _references_of(package, optional):
            if _top(other) not in reasons:
                reasons[_top(other)] = reasons[package]
                waiting.append(_top(other))
    return {name: reasons[_top(name)] for name in optional if _top(name) in reasons}


def _references_of(package: str, optional: set[str]) -> set[str]:
    """The `optional` modules that any module of `package` refers to."""
    modules = [sys.modules.get(name) for name in optional if _top(name) == package]
    return {other for module in modules if is_module(module) for other in referenced(module) if other in optional}


def _sum(figures: Iterable[int | None]) -> int | None:
    """The sum of what was measured; None if something was to be measured and nothing was."""
    every = list(figures)
    measured = [figure for figure in every if figure is not None]
    return sum(measured) if measured or not every else None


def _top(name: str) -> str:
    return name.partition(".")[0]


def _namespace(module: ModuleType) -> dict[str, Any]:
    """The module's own dictionary, past any ``__getattribute__`` of a lazy module."""
    namespace: dict[str, Any] = ModuleType.__getattribute__(module, "__dict__")
    return namespace


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value


@attrs.frozen(kw_only=True)
class Split:
    """How the modules that one plugin uses are to be charged."""

    modules: int
    shared_bytes: int
    """Used by others too."""
    shared_brought_bytes: int
    """Of those, what this plugin's own load brought in, and is therefore in its weighing."""
    stdlib_bytes: int
    """Of the standard library, brought in by its load."""
    adopted_bytes: int
    """Brought in by another plugin's load, and used by this one alone by now."""


class ModuleBooks:
    """Every module that a load has brought in and that is still there."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def enter(self, plugin: str, weights: Iterable[ModuleWeight], own: str) -> None:
        """Put on the books what the load of `plugin` brought in, and what else on the books it uses."""
        brought = list(weights)
        for weight in brought:
            self._entries[weight.name] = _Entry(weight, plugin, classify(weight.name, own), {plugin})
        already = (name for name in list(self._entries) if classify(name, own) == "own")
        for name in self._reach([*already, *(weight.name for weight in brought)]):
            self._entries[name].users.add(plugin)

    def _reach(self, names: Iterable[str]) -> set[str]:
        """Everything on the books that can be reached from the modules called `names`."""
        reached: set[str] = set()
        waiting = [name for name in names if name in self._entries]
        while waiting:
            name = waiting.pop()
            if name in reached:
                continue
            reached.add(name)
            module = sys.modules.get(name)
            if is_module(module):
                waiting.extend(other for other in referenced(module) if other in self._entries)
        return reached

    def of(self, plugin: str) -> tuple[tuple[ModuleWeight, Kind, bool], ...]:
        """What `plugin` uses: the weight, the kind, and whether others use it too."""
        return tuple(
            (entry.weight, entry.kind, len(entry.users) > 1)
            for entry in list(self._entries.values())
            if plugin in entry.users
        )

    def split(self, plugin: str) -> Split:
        """How the modules that `plugin` uses are to be charged."""
        modules = shared = brought = stdlib = adopted = 0
        for entry in list(self._entries.values()):
            if plugin not in entry.users:
                continue
            nbytes = entry.weight.traced_bytes or 0
            modules += entry.kind != "stdlib"
            if entry.kind == "stdlib":
                stdlib += nbytes if entry.brought_by == plugin else 0
            elif len(entry.users) > 1:
                shared += nbytes
                brought += nbytes if entry.brought_by == plugin else 0
            elif entry.brought_by != plugin:
                adopted += nbytes
        return Split(
            modules=modules,
            shared_bytes=shared,
            shared_brought_bytes=brought,
            stdlib_bytes=stdlib,
            adopted_bytes=adopted,
        )

    def shared_bytes(self) -> int | None:
        """Traced bytes of modules that several plugins use, or that nobody uses any more; None if not measured."""
        return _sum(entry.weight.traced_bytes for entry in list(self._entries.values()) if self._is_shared(entry))

    def stdlib_bytes(self) -> int | None:
        """Traced bytes of modules of the standard library that came with plugins; None if not measured."""
        return _sum(entry.weight.traced_bytes for entry in list(self._entries.values()) if entry.kind == "stdlib")

    @staticmethod
    def _is_shared(entry: _Entry) -> bool:
        return len(entry.users) != 1 and entry.kind != "stdlib"

    def leave(self, plugin: str, *, dependencies: bool, drop: bool = True) -> Departure:
        """Strike `plugin` off, and tell which modules may be dropped from ``sys.modules`` now; those are off the books.

        Modules of the standard library stay, so do those that others use, and packages with a compiled module.
        Dependencies go only if asked, and if nothing outside refers to them. With `drop` false nothing goes.
        What has left ``sys.modules`` already is among those that may be dropped: it has to die, too.
        """
        mine = [name for name, entry in list(self._entries.items()) if plugin in entry.users and entry.kind != "stdlib"]
        for entry in list(self._entries.values()):
            entry.users.discard(plugin)
        idle = {name for name, entry in list(self._entries.items()) if not entry.users and entry.kind != "stdlib"}
        gone = [name for name in list(self._entries) if name in idle and name not in sys.modules]
        idle.difference_update(gone)
        stays = self._staying(idle, dependencies=dependencies) if drop else dict.fromkeys(idle, _DECLARED)
        dropped = (*gone, *(name for name in list(sys.modules) if name in idle and name not in stays))
        kept = {name: stays.get(name, _SHARED) for name in mine if name not in dropped}
        excused = self._excused_bytes(plugin, dropped, kept)
        for name in dropped:
            del self._entries[name]
        for entry in list(self._entries.values()):
            if entry.brought_by == plugin:
                entry.brought_by = None
        return Departure(dropped, kept, excused)

    def _excused_bytes(self, plugin: str, dropped: Iterable[str], kept: Mapping[str, Kept]) -> int:
        brought = {name for name, entry in list(self._entries.items()) if entry.brought_by == plugin}
        failed = {name for name, why in kept.items() if why in _FAILED}
        return self.traced_bytes(brought - set(dropped) - failed) - self.traced_bytes(set(dropped) - brought)

    def _staying(self, idle: set[str], *, dependencies: bool) -> dict[str, Kept]:
        """Which of the modules that nobody uses any more stay all the same."""
        optional = {name for name in idle if self._entries[name].kind == "dependency"}
        compiled = {_top(name) for name in idle - optional if is_extension(sys.modules.get(name))}
        own: dict[str, Kept] = {name: "compiled" for name in idle - optional if _top(name) in compiled}
        return own | (_bound(optional, idle - own.keys()) if dependencies else dict.fromkeys(optional, _UNASKED))

    def traced_bytes(self, names: Iterable[str]) -> int:
        """What the modules called `names` weigh together, as far as it was measured."""
        return sum(self._entries[name].weight.traced_bytes or 0 for name in names if name in self._entries)

    def files(self) -> dict[str, set[str]]:
        """File name to the plugins that use the module."""
        return {
            entry.weight.file: set(entry.users)
            for entry in list(self._entries.values())
            if entry.weight.file and entry.kind != "stdlib"
        }
