"""What C code and its callers keep of a plugin: ``ctypes``, ``readline``, ``faulthandler``."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final

from ...accounting.callbacks import called_by
from ..belongings import Belongings
from ..names import name_of, namespace_of, short
from .tie import Finding, Hold, Tie


class PointerTypes(Tie):
    """Types that ``ctypes.POINTER``, ``CFUNCTYPE`` and their like made of the plugin's types."""

    name = "ctypes type cache"
    sentence = "ctypes keeps every pointer and function type that it ever made"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry for each type: https://github.com/python/cpython/blob/3.11/Lib/ctypes/__init__.py."""
        space = namespace_of(sys.modules.get("ctypes"))
        for slot in ("_pointer_type_cache", "_c_functype_cache", "_win_functype_cache"):
            cache: Any = space.get(slot)
            for key, value in list(cache.items()) if type(cache) is dict else ():
                if key in belongings or value in belongings:
                    word = name_of(key) if issubclass(type(key), type) else short(key)
                    place = f"ctypes.{slot}[{word}]"
                    yield Hold(place=place, held=name_of(value), cut=partial(cache.pop, key, None))


class Callbacks(Tie):
    """Functions of the plugin's that C code may call by address: freed, the next call would end the process."""

    name = "ctypes callback"
    sentence = "C code may have the address of a function of the plugin's, so the function is kept alive for ever"

    def wanted(self) -> Iterable[type]:
        """Every type of C functions that was made: ``CFUNCTYPE`` makes one for each signature."""
        found: list[type] = [base] if (base := namespace_of(sys.modules.get("_ctypes")).get("CFuncPtr")) else []
        for kind in found:
            found.extend(type.__subclasses__(kind))
        return found

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """What is alive now: those that C code no longer has the plugin should have let go of."""
        for callback, function in _callbacks(self.wanted(), belongings):
            yield Hold(place=f"<{name_of(callback)}>", held=name_of(function), cut=None, note=_NOTE)

    def find(self, belongings: Belongings) -> tuple[Finding, ...]:
        """Everything that is found is kept alive from now on, whether ties are cut or not."""
        self._keep(belongings)
        return super().find(belongings)

    def cut_all(self, belongings: Belongings, *, unsafe: bool) -> tuple[Finding, ...]:
        """Nothing is cut, but everything is kept alive from now on."""
        self._keep(belongings)
        return super().cut_all(belongings, unsafe=unsafe)

    def _keep(self, belongings: Belongings) -> None:
        for callback, _ in _callbacks(self.wanted(), belongings):
            called_from_c[id(callback)] = callback


called_from_c: Final[dict[int, Any]] = {}
"""Callbacks of unloaded plugins, by identity. Of the process, not of a host: C code outlives every host."""
_NOTE: Final = "C code may still have its address, and a call after it was freed would end the process"


class Libraries(Tie):
    """Libraries that the plugin loaded with ``ctypes``: Python never closes one."""

    name = "loaded library"
    sentence = "a library that ctypes loaded stays until the process ends, with its memory and its threads"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """Those that a module of the plugin's has a name for."""
        base: Any = namespace_of(sys.modules.get("ctypes")).get("CDLL")
        for module in belongings.modules if base is not None else ():
            for name, value in list(namespace_of(module).items()):
                own = namespace_of(value) if issubclass(type(value), base) else {}
                if own.get("_name"):  # without one it is the program itself
                    place = f"{name_of(module)}.{name}"
                    yield Hold(place=place, held=short(own["_name"]), cut=None, note="Python never closes a library")


class LineEditing(Tie):
    """The completer of ``readline``, and its hooks."""

    name = "readline"
    sentence = "readline keeps a completer or a hook of the plugin's; it should be set back to None"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """What cannot be asked for is seen by the collector: it is cleared, and put back if it is not the plugin's.

        https://github.com/python/cpython/blob/3.11/Modules/readline.c, ``readline_traverse``.
        """
        module = sys.modules.get("readline")
        space = namespace_of(module)
        for held in gc.get_referents(module) if space else ():
            if held is not space and held in belongings and type(held) is not int:
                yield Hold(place="readline", held=name_of(held), cut=partial(_clear_hook, module, space, held))


class FaultFiles(Tie):
    """The file that ``faulthandler`` writes to: it is kept in C, where nobody can see whose it is."""

    name = "faulthandler file"
    sentence = "faulthandler may keep a file of the plugin's, which uses it; the plugin should disable it again"
    safe = False

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """If it is on, and the plugin refers to it: cut, it goes on with ``sys.__stderr__``, if there is one."""
        module: Any = sys.modules.get("faulthandler")
        if module is None or not module.is_enabled() or not _names(module, belongings):
            return
        note = "whose file it was could not be seen; it writes to the standard error stream now"
        yield Hold(place="faulthandler.enable", held="file", cut=partial(_write_elsewhere, module), note=note)


def _callbacks(kinds: Iterable[type], belongings: Belongings) -> Iterator[tuple[Any, Any]]:
    """C functions that call a function of the plugin's, with that function."""
    for kind in kinds:
        for callback in belongings.heap.get(kind, ()):
            inner = called_by(callback)
            yield from ((callback, one) for one in inner if not issubclass(type(one), type) and one in belongings)


def _clear_hook(module: Any, space: dict[str, Any], hook: object) -> None:
    setters: list[Callable[[Any], object]] = [space[name] for name in _SETTERS if name in space]
    for put in setters:
        before = _hooks(module)
        put(None)
        after = [id(one) for one in _hooks(module)]
        for gone in before:
            if after.count(id(gone)) < [id(one) for one in before].count(id(gone)) and gone is not hook:
                put(gone)


_SETTERS: Final = ("set_completer", "set_startup_hook", "set_pre_input_hook", "set_completion_display_matches_hook")


def _hooks(module: Any) -> list[Any]:
    return [one for one in gc.get_referents(module) if type(one) is not dict and type(one) is not int]


def _names(module: Any, belongings: Belongings) -> bool:
    """Whether a module of the plugin's has a name for it or for one of its functions, or a function mentions it."""
    functions = [value for value in namespace_of(module).values() if type(value) is type(len)]
    wanted = {id(module), *map(id, functions)}
    named = any(id(value) in wanted for one in belongings.modules for value in list(namespace_of(one).values()))
    return named or any("faulthandler" in function.__code__.co_names for function in belongings.functions)


def _write_elsewhere(module: Any) -> None:
    stream = vars(sys).get("__stderr__")
    if stream is None:
        module.disable()
    else:
        module.enable(stream)
