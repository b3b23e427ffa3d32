"""Strange objects in anybody's modules: never asked, and no reason to find less of a plugin."""

from __future__ import annotations

import builtins
import gc
import sys
import textwrap
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from weighbridge.accounting.modules import referenced
from weighbridge.reclaim.belongings import Belongings
from weighbridge.reclaim.drop import drop_modules
from weighbridge.reclaim.names import is_any, name_of, namespace_of
from weighbridge.reclaim.ties.catalogue import cut_ties, wanted
from weighbridge.reclaim.ties.suspended import Tracebacks

NAME, OTHER = "leaver_among_strangers", "library_of_strangers"
Define = Callable[[str, str], Any]

REFUSING = """
class Refusal(Exception):
    pass

class Meta(type):
    __hash__ = None
    def __eq__(cls, other): raise Refusal("compared a class")
    def __instancecheck__(cls, one): raise Refusal("asked for an instance")
    def __subclasscheck__(cls, one): raise Refusal("asked for a subclass")
    def __getattribute__(cls, name): raise Refusal(f"asked a class for {name}")
    @property
    def __dict__(cls): raise Refusal("asked a class for its attributes")

class Plain:
    @property
    def __dict__(self): raise Refusal("asked for attributes")
    @property
    def __class__(self): raise Refusal("asked for the class")
    def __str__(self): raise Refusal("asked for a text")
    __repr__ = __str__
    __hash__ = None

class Strange(list, metaclass=Meta):
    pass

class Failure(Exception):
    @property
    def __traceback__(self): raise Refusal("asked for the traceback")
    def __getattribute__(self, name): raise Refusal(f"asked for {name}")

def named(): pass
named.__module__ = Plain()
plain, failure, strange = Plain(), Failure(), Strange()
append = list.append.__get__(strange)
"""


@pytest.fixture
def define() -> Iterator[Define]:
    """Make modules from source, which are taken out of ``sys.modules`` again."""
    names: list[str] = []

    def make(name: str, source: str) -> ModuleType:
        module = sys.modules[name] = ModuleType(name)
        names.append(name)
        exec(textwrap.dedent(source), vars(module))
        return module

    yield make
    for name in names:
        sys.modules.pop(name, None)
    gc.collect()


@pytest.fixture
def library(define: Define) -> Any:
    """A module of others that is full of strangers."""
    return define(OTHER, REFUSING)


def test_strangers_in_a_module_hide_nothing_of_a_plugin(define: Define, library: Any) -> None:
    """What the plugin left in that module is found and cut, and no tie gives up its search."""
    define(
        NAME,
        f"""
        import {OTHER} as library
        class Load: pass
        def weigh(): pass
        library.left = Load
        library.registry = [weigh, library.plain, library.strange, library.failure]
        """,
    )
    found = list(cut_ties(Belongings.of([NAME], wanted()), "all"))
    assert {one.outcome for one in found} == {"cut"}
    assert not hasattr(library, "left")
    assert len(library.registry) == 3


@pytest.mark.parametrize("thing", ["plain", "strange", "failure", "append", "named", "Strange", "Failure"])
def test_a_stranger_is_told_and_named_without_being_asked(define: Define, library: Any, thing: str) -> None:
    """Whether it is the plugin's, what it is called and what its attributes are comes from where that is stored."""
    one = vars(library)[thing]
    assert one not in Belongings.of([define(NAME, "").__name__])
    assert isinstance(name_of(one), str)
    namespace_of(one)


def test_names_that_a_module_computes_are_not_computed(library: Any) -> None:
    """What it refers to is read from its global names, whatever these say of themselves."""
    vars(library)["__name__"] = library.plain
    assert OTHER in set(referenced(library))
    assert name_of(library) == "module"


def test_a_class_that_cannot_be_hashed_is_none_of_pythons_own(library: Any) -> None:
    """The look-up in a table of types neither hashes nor compares it."""
    assert is_any(dict, {dict: 1})
    assert not is_any(library.Strange, frozenset({dict}))
    assert not is_any(library.Strange, (dict, list))


def test_attributes_are_those_of_the_instance_or_none(library: Any) -> None:
    """A ``__dict__`` that a class computes is not asked for: it may be another object's."""
    target = {"secret": 1}

    class Proxy:
        __dict__ = property(lambda self: target)

    class Slotted:
        __slots__ = ("one",)

    assert namespace_of(Proxy()) == {}
    assert namespace_of(Slotted()) == {}
    assert namespace_of(library) is vars(library)


def test_what_is_nested_without_end_is_looked_at_once(define: Define) -> None:
    """The same tuple a thousand times inside another, six times over, takes no longer than one of them."""
    nested: Any = (1,)
    for _ in range(6):
        nested = (nested,) * 1_000
    module = define(NAME, "class Load: pass")
    own = Belongings.of([NAME])
    assert nested not in own
    assert (nested, (module.Load,)) in own


def test_a_class_that_says_it_is_of_another_module_is_the_plugins(define: Define) -> None:
    """It is watched, and what it defines is no patch of ``builtins``."""
    module = define(
        NAME,
        """
        class Skipped(Exception):
            __module__ = "builtins"
            def __init__(self): super().__init__()
        """,
    )
    own = Belongings.of([NAME], wanted())
    assert module.Skipped in own.classes
    assert [one for one in cut_ties(own, "none") if "Skipped" in one.place] == []


def test_a_patched_class_of_another_module_stays_theirs(define: Define, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function of the same qualified name that was put into it does not make it the plugin's."""

    class Scale:
        pass

    Scale.__module__, Scale.__qualname__ = "builtins", "Scale"
    monkeypatch.setattr(builtins, "Scale", Scale, raising=False)
    module = define(NAME, "class Scale:\n    def weigh(self): pass")
    Scale.weigh = module.Scale.weigh  # type: ignore[attr-defined]
    assert Belongings.of([NAME]).classes == (module.Scale,)


def test_a_frozen_closure_is_watched(define: Define) -> None:
    """After ``gc.freeze`` the collector lists nothing: what the module leads to is found all the same."""
    define(
        NAME,
        """
        import functools
        def make():
            def inner(): pass
            return inner
        listed, mapped, wrapped = [make()], {"key": (make(),)}, functools.partial(make())
        """,
    )
    gc.freeze()
    try:
        watched = [one.name for one in Belongings.of([NAME]).watched()]
    finally:
        gc.unfreeze()
    assert watched.count(f"{NAME}.make.<locals>.inner") == 3


def test_thousands_of_exceptions_that_somebody_keeps_lose_their_frames(define: Define) -> None:
    """However many there are, each is found to be held by others, and let go of."""
    kept: list[Exception] = []
    module = define(NAME, "def fail(): raise ValueError('wrong')")
    for _ in range(3_000):
        try:
            module.fail()
        except ValueError as caught:
            kept.append(caught)
    globals()["kept_by_the_application"] = kept
    try:
        tie = Tracebacks()
        found = tie.cut_all(Belongings.of([NAME], tie.wanted()), unsafe=False)
    finally:
        del globals()["kept_by_the_application"]
    assert [one.outcome for one in found] == ["cut"] * 3_000
    assert {step.tb_frame.f_globals["__name__"] for one in kept if (step := one.__traceback__)} == {__name__}


def test_a_finder_that_fails_does_not_stop_the_dropping(define: Define, monkeypatch: pytest.MonkeyPatch) -> None:
    """All modules are gone, and the finders behind it are told to look again."""
    told: list[str] = []

    class Failing:
        def invalidate_caches(self) -> None:
            raise RuntimeError

    class Good:
        def invalidate_caches(self) -> None:
            told.append("good")

    finders: dict[str, Any] = {"failing": Failing(), "good": Good()}
    monkeypatch.setattr(sys, "path_importer_cache", finders)
    define(NAME, "")
    define(f"{NAME}.part", "")
    assert drop_modules([NAME, f"{NAME}.part"]) == 2
    assert told == ["good"]
