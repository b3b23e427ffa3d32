"""What ``warnings`` keeps of a plugin: https://docs.python.org/3/library/warnings.html."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from ...accounting.modules import is_module
from ..belongings import Belongings
from ..names import name_of, namespace_of, short
from .interpreter import unhooked
from .running import take_out
from .tie import Hold, Tie


class WarningFilters(Tie):
    """Filters for a category of warnings that the plugin defined."""

    name = "warnings filter"
    sentence = "a warnings filter names a category of the plugin's; a filter set by a library is best left to the user"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry for each filter."""
        for place, filters in _filters():
            for index, one in enumerate(list(filters)):
                if type(one) is tuple and one in belongings:
                    cut = partial(_remove, filters, one)
                    yield Hold(place=f"{place}[{index}]", held=name_of(one[2]), cut=cut)


class ModuleFilters(Tie):
    """Filters for warnings from the plugin's modules and no others: from the plugin, or from the application."""

    name = "warnings filter for a module"
    sentence = "a warnings filter matches nothing but modules of the plugin's; nobody knows who set it"
    safe = False

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry for each filter whose pattern matches a module of the plugin's and no other that is imported."""
        others = [name for name in list(sys.modules) if name not in belongings.names]
        for place, filters in _filters():
            for index, one in enumerate(list(filters)):
                pattern = one[3] if type(one) is tuple and len(one) == 5 else None
                if pattern is None or one in belongings:
                    continue
                matches = _matcher(pattern)
                if any(map(matches, belongings.names)) and not any(map(matches, others)):
                    held = short(pattern.pattern if type(pattern) is re.Pattern else pattern)
                    yield Hold(place=f"{place}[{index}]", held=held, cut=partial(_remove, filters, one))


class WarningHooks(Tie):
    """``warnings.showwarning`` and ``warnings.formatwarning``, replaced by the plugin."""

    name = "warnings hook"
    sentence = "the plugin replaced how warnings are shown; it should put the previous function back"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """Set back to the function that the plugin's one wraps, or to the one of warnings itself."""
        space: dict[str, Any] = vars(warnings)
        for slot in ("showwarning", "formatwarning"):
            hook, default = space.get(slot), space.get(f"_{slot}_orig")
            if hook is not default:
                put = partial(space.__setitem__, slot)
                yield from unhooked(f"warnings.{slot}", hook, default, put, belongings)


class WarningRegistries(Tie):
    """``__warningregistry__`` of a module in which a warning of the plugin's was raised."""

    name = "warnings registry"
    sentence = "a module remembers that a warning of the plugin's category was shown"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """An entry for each warning that was shown."""
        for place, registry in _registries(belongings):
            for key in list(registry):
                if type(key) is tuple and key in belongings:
                    cut = partial(registry.pop, key, None)
                    yield Hold(place=f"{place}[...]", held=name_of(key[1]), cut=cut)


_COMPILED: Final = "_warnings"
"""The compiled half. It has attributes of its own, which are others as soon as warnings' are replaced."""


def _filters() -> Iterator[tuple[str, list[Any]]]:
    found: dict[int, tuple[str, list[Any]]] = {}
    for name in ("warnings", _COMPILED):
        filters = namespace_of(sys.modules.get(name)).get("filters")
        if type(filters) is list:
            found.setdefault(id(filters), (f"{name}.filters", filters))
    yield from found.values()


def _registries(belongings: Belongings) -> Iterator[tuple[str, dict[Any, Any]]]:
    for home, slot in (("warnings", "onceregistry"), (_COMPILED, "_onceregistry")):
        registry = namespace_of(sys.modules.get(home)).get(slot)
        if type(registry) is dict:
            yield f"{home}.{slot}", registry
    for name, module in list(sys.modules.items()):
        registry = namespace_of(module).get("__warningregistry__") if is_module(module) else None
        if type(registry) is dict and name not in belongings.names:
            yield f"{name}.__warningregistry__", registry


def _remove(filters: list[Any], gone: object) -> None:
    take_out(filters, gone)
    # what modules remember is void then: https://github.com/python/cpython/blob/3.13/Lib/warnings.py
    for name in ("_filters_mutated", "_filters_mutated_lock_held"):
        mutated = vars(warnings).get(name)
        if mutated is not None:
            _mutate(mutated, name)
            return


def _mutate(mutated: Any, name: str) -> None:
    if name == "_filters_mutated":
        mutated()
        return
    with vars(warnings)["_lock"]:  # from Python 3.14 on
        mutated()


def _matcher(pattern: Any) -> Any:
    """A filter set from Python has a compiled pattern, one set by the interpreter a whole name."""
    return pattern.match if type(pattern) is re.Pattern else pattern.__eq__
