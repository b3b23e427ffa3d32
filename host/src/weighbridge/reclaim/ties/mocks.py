"""What ``unittest`` keeps: patches that were left active, and clean-ups of modules."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

from ..belongings import Belongings
from ..names import defined_in, name_of, namespace_of, short
from .running import take_out
from .tie import Hold, Tie

_MOCK = "unittest.mock"


class ActiveMocks(Tie):
    """``unittest.mock.patch(...).start()`` without ``stop()``."""

    name = "active mock"
    sentence = "a unittest.mock patch was started and never stopped; stop it, or use it as a context manager"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """Patches that the plugin put in, told by what they put there, or by the time of its load."""
        active = _active()
        for patch in list(active):
            if "in_dict" in namespace_of(patch):
                yield from _entries(patch, active, belongings)
            elif _is_mine(patch, belongings):
                place = f"{name_of(_target(patch))}.{patch.attribute}, patched"
                yield Hold(place=place, held=name_of(_value(patch, active)), cut=partial(_stop, patch, active))


def _active() -> list[Any]:
    patch = namespace_of(sys.modules.get(_MOCK)).get("_patch")
    found = namespace_of(patch).get("_active_patches")
    return found if type(found) is list else []


def mocked() -> set[tuple[int, str]]:
    """Identities of modules and classes, with the name of an attribute, where an active mock is in place."""
    patches = [patch for patch in _active() if "in_dict" not in namespace_of(patch)]
    return {(id(_target(patch)), patch.attribute) for patch in patches}


def _target(patch: Any) -> Any:
    return namespace_of(patch).get("target")


def _later(patch: Any, active: list[Any]) -> Any:
    """The next patch of the same attribute, which remembers what this one put there."""
    place = next(index for index, one in enumerate(active) if one is patch)
    same = (one for one in active[place + 1 :] if _target(one) is _target(patch))
    return next((one for one in same if namespace_of(one).get("attribute") == patch.attribute), None)


def _value(patch: Any, active: list[Any]) -> Any:
    """What a patch put there."""
    later = _later(patch, active)
    return namespace_of(_target(patch)).get(patch.attribute) if later is None else later.temp_original


def _stop(patch: Any, active: list[Any]) -> None:
    """Like ``stop``, but a later patch of the same attribute stays, and will restore what was there before both."""
    later = _later(patch, active)
    if later is None:
        patch.stop()
        return
    later.temp_original, later.is_local = patch.temp_original, patch.is_local
    take_out(active, patch)


def _is_mine(patch: Any, belongings: Belongings) -> bool:
    parts = {name: value for name, value in namespace_of(patch).items() if name != "temp_original"}
    value = _value(patch, _active())
    if any(one in belongings for one in (value, *parts.values(), *(parts.get("kwargs") or {}).values())):
        return True
    if defined_in(type(value)) == _MOCK and any(one in belongings for one in namespace_of(value).values()):
        return True
    return belongings.patches.at(name_of(_target(patch)), patch.attribute, value) is not None


def _entries(patch: Any, active: list[Any], belongings: Belongings) -> Iterator[Hold]:
    """Of a ``patch.dict``, one by one: stopping it would undo what others have changed since."""
    parts = namespace_of(patch)
    for name in ("values", "_original"):
        held = parts.get(name)
        for key, value in list(held.items()) if type(held) is dict else ():
            if key in belongings or value in belongings:
                place = f"mock.patch.dict, {name}[{short(key)}]"
                yield Hold(place=place, held=name_of(value), cut=partial(_unpatch, patch, active, name, key))


def _unpatch(patch: Any, active: list[Any], name: str, key: Any) -> None:
    target, value = patch.in_dict, namespace_of(patch)[name].pop(key, None)
    if name == "values" and type(target) is dict and target.get(key) is value:
        if key in patch._original:
            target[key] = patch._original[key]
        else:
            del target[key]
    if name == "values" and not patch.values:
        take_out(active, patch)


class ModuleCleanups(Tie):
    """``unittest.addModuleCleanup`` outside of a run of tests."""

    name = "unittest clean-up"
    sentence = "unittest.addModuleCleanup was called outside of a run of tests, so nobody calls it"

    def holds(self, belongings: Belongings) -> Iterator[Hold]:
        """Each clean-up, without calling it."""
        cleanups: list[Any] = namespace_of(sys.modules.get("unittest.case")).get("_module_cleanups", [])
        for index, entry in enumerate(list(cleanups)):
            function, arguments, named = entry
            if any(one in belongings for one in (function, *arguments, *named.values())):
                place = f"unittest.case._module_cleanups[{index}]"
                yield Hold(place=place, held=name_of(function), cut=partial(take_out, cleanups, entry))
