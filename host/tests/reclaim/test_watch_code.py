"""What has to die with a plugin: found wherever it is, held by nobody, and never asked."""

from __future__ import annotations

import functools
import gc
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

import attrs
import pytest

from weighbridge.reclaim.belongings import Belongings
from weighbridge.reclaim.names import defined_in, qualified
from weighbridge.reclaim.watch import Watched, namespaces, survivors, watch


def watch_code(modules: Iterable[str]) -> list[Watched]:
    return Belongings.of(modules).watched()


SOURCE = """
class Lamp:
    class Bulb:
        def glow(self): pass
    def shine(self): pass

def light():
    def inner(): pass
    return inner

dim = lambda: None
"""
Define = Callable[..., ModuleType]


@pytest.fixture
def define() -> Iterator[Define]:
    """Make modules from source, which are taken out of ``sys.modules`` again."""
    names: list[str] = []
    gc.collect()  # classes of the same names, of an earlier test

    def make(name: str, source: str = "", **values: object) -> ModuleType:
        module = ModuleType(name)
        vars(module).update(values)
        exec(compile(source, f"/plugins/{name}.py", "exec"), vars(module))
        sys.modules[name] = module
        names.append(name)
        return module

    yield make
    for name in names:
        sys.modules.pop(name, None)


def names_of(watched: list[Watched]) -> list[tuple[str, str]]:
    return sorted((one.kind, one.name) for one in watched)


def test_a_module_is_watched_with_all_that_it_defines(define: Define) -> None:
    """Classes, nested classes, functions, methods and lambdas of a module are watched, and the module itself."""
    define("lamp", SOURCE)
    assert names_of(watch_code(["lamp"])) == [
        ("class", "lamp.Lamp"),
        ("class", "lamp.Lamp.Bulb"),
        ("function", "lamp.<lambda>"),
        ("function", "lamp.Lamp.Bulb.glow"),
        ("function", "lamp.Lamp.shine"),
        ("function", "lamp.light"),
        ("module", "lamp"),
    ]


def test_what_was_made_later_is_watched_wherever_it_is(define: Define) -> None:
    """A function that another one returned, and a class that is no longer a global name, have to die like the rest."""
    lamp = define("lamp", SOURCE)
    elsewhere = [lamp.light(), lamp.Lamp]
    del lamp.Lamp
    found = names_of(watch_code(["lamp"]))
    assert ("function", "lamp.light.<locals>.inner") in found
    assert ("class", "lamp.Lamp") in found
    assert len(elsewhere) == 2


def test_what_others_defined_is_not_watched(define: Define) -> None:
    """Names that a module only imported belong to where they come from."""
    define("library", SOURCE)
    define("lamp", "from library import Lamp, light\nimport json")
    assert names_of(watch_code(["lamp"])) == [("module", "lamp")]


def test_a_function_belongs_to_its_globals(define: Define) -> None:
    """A wrapper that claims another module is still the plugin's; one that a library shares among classes is not."""
    lamp = define(
        "lamp", "import functools\ndef plain(x):\n    @functools.wraps(x)\n    def wrapper(): pass\n    return wrapper"
    )
    wrapper = lamp.plain(functools.reduce)

    @attrs.define
    class Shared:
        x: int = 0

    vars(Shared)["__init__"].__module__ = "lamp"
    found = [one.reference() for one in watch_code(["lamp"]) if one.kind == "function"]
    assert wrapper in found
    assert vars(Shared)["__init__"] not in found


def test_several_modules_are_watched_in_one_walk(define: Define) -> None:
    """A package and its submodules come together, and a name that is not in sys.modules does no harm."""
    define("lamp", "def a(): pass")
    define("lamp.bulb", "class B: pass")
    assert names_of(watch_code(iter(["lamp", "lamp.bulb", "lamp.gone"]))) == [
        ("class", "lamp.bulb.B"),
        ("function", "lamp.a"),
        ("module", "lamp"),
        ("module", "lamp.bulb"),
    ]


def test_a_class_is_watched_when_its_module_has_left_already(define: Define) -> None:
    """A plugin that takes its own module out of sys.modules does not take its classes off the list."""
    kept = define("lamp", SOURCE)
    del sys.modules["lamp"]
    assert ("class", "lamp.Lamp") in names_of(watch_code(["lamp"]))
    assert kept.Lamp is not None


def test_watching_runs_no_code_of_a_plugin(define: Define) -> None:
    """Metaclasses, proxies and modules that answer every question with an error are found all the same."""
    lamp = define(
        "lamp",
        """
from types import ModuleType

class Meta(type):
    armed = False

    def __getattribute__(cls, name):
        if type.__getattribute__(Meta, "armed"):
            raise RuntimeError(f"asked the class for {name}")
        return type.__getattribute__(cls, name)

    @property
    def __dict__(cls):
        raise RuntimeError("a property was read")

class Hostile(metaclass=Meta):
    def __getattribute__(self, name):
        raise RuntimeError(f"asked for {name}")

class Lazy(ModuleType):
    def __getattribute__(self, name):
        raise RuntimeError(f"asked the module for {name}")

thing = Hostile()
""",
    )
    lazy = lamp.Lazy("lazy")
    sys.modules["lazy"] = lazy
    lamp.Meta.armed = True
    try:
        watched = watch_code(["lamp", "lazy"])
        one = watch("plugin", vars(lamp)["thing"])
        found = namespaces(["lamp", "lazy"])
    finally:
        lamp.Meta.armed = False
        del sys.modules["lazy"]
    assert {("class", "lamp.Hostile"), ("module", "lazy")} <= set(names_of(watched))
    assert one.name == "lamp.Hostile"
    assert len(found) == 2


def test_the_name_of_a_class_is_read_past_its_metaclass() -> None:
    """A metaclass whose property pretends to be the module of its classes is not believed, and not asked."""

    def answer(cls: type) -> str:
        raise RuntimeError("it was asked")

    meta = type("Meta", (type,), {"__module__": property(answer)})
    made: Any = meta("Made", (), {"__module__": "lamp"})
    assert (defined_in(made), qualified(made)) == ("lamp", "Made")
    assert (defined_in(int), qualified(int)) == ("builtins", "int")
    assert defined_in(meta) is None


def test_watching_holds_nothing(define: Define) -> None:
    """With the list at hand everything on it can die, and what has died is no survivor."""
    lamp = define("lamp", SOURCE)
    watched = [*watch_code(["lamp"]), watch("plugin", lamp.Lamp())]
    assert len(survivors(watched)) == len(watched) - 1
    keep = lamp.light
    del sys.modules["lamp"], lamp
    gc.collect()
    left = survivors(watched)
    assert ("function", "lamp.light") in names_of(left)
    assert ("module", "lamp") not in names_of(left)
    del keep
    gc.collect()
    assert survivors(watched) == []


def test_an_object_is_watched_by_the_name_of_its_class(define: Define) -> None:
    """The list says what a thing is, not what it looks like: its repr may be code."""
    lamp = define("lamp", SOURCE)
    thing = lamp.Lamp.Bulb()
    watched = watch("tracked", thing)
    assert (watched.kind, watched.name) == ("tracked", "lamp.Lamp.Bulb")
    assert watched.reference() is thing
    assert watch("tracked", {1}).name == "set"


@pytest.mark.parametrize("thing", [[], {}, 5, "text", None, (1,)], ids=repr)
def test_an_object_without_weak_references_cannot_be_watched(thing: object) -> None:
    """The caller learns it as a TypeError."""
    with pytest.raises(TypeError, match="weak reference"):
        watch("tracked", thing)


def test_namespaces_tell_generations_apart(define: Define) -> None:
    """After a reload the new module has another namespace, and old code still runs in the old one."""
    first = define("lamp", SOURCE)
    old = namespaces(["lamp"])
    second = define("lamp", SOURCE)
    new = namespaces(["lamp"])
    assert old == {id(first.light.__globals__)}
    assert new == {id(second.light.__globals__)}
    assert old.isdisjoint(new)
    assert namespaces(["lamp", "not there"]) == new


def test_twenty_rounds_of_watching_leave_nothing(define: Define) -> None:
    """After warming up, watching modules that come and go leaves as many objects as there were."""

    def come_and_go() -> None:
        define("mortal", SOURCE)
        watched = watch_code(["mortal"])
        del sys.modules["mortal"]
        gc.collect()
        assert survivors(watched) == []

    come_and_go()
    gc.collect()
    before, reference = len(gc.get_objects()), weakref.ref(define("mortal"))
    del sys.modules["mortal"]
    for _ in range(20):
        come_and_go()
    assert reference() is None
    assert len(gc.get_objects()) - before < 10


def test_a_function_of_a_library_is_not_watched_though_it_bears_the_name_of_the_module(define: Define) -> None:
    """Attrs puts its ``evolve`` into each class on Python 3.13, and gives it the name of the class's module."""
    library = define("library", "def evolve(thing): pass")
    lamp = define("lamp", "import attrs, library\n@attrs.define\nclass Lamp:\n    x: int = 0\n    put = library.evolve")
    vars(library)["evolve"].__module__ = "lamp"
    found = [one.reference() for one in watch_code(["lamp"]) if one.kind == "function"]
    assert vars(library)["evolve"] not in found
    assert vars(lamp.Lamp)["__init__"] in found
    assert vars(sys.modules["attr._make"])["evolve"] not in found


def test_a_copy_of_a_module_is_told_from_the_module(define: Define) -> None:
    """A plugin that loads a library for itself, under another name, takes its own copy along and no other."""
    library = define("library", SOURCE)
    copy = define("lamp_library", SOURCE.replace("class Lamp", "__name__ = 'library'\nclass Lamp", 1))
    found = [one.reference() for one in watch_code(["lamp_library"])]
    assert copy.Lamp in found
    assert library.Lamp not in found


def test_what_ties_have_found_goes_with_the_belongings_in_one_collection(define: Define) -> None:
    """Even if something made a cycle of them: nothing keeps, until the next collection, what several ties shared."""
    define("lamp", SOURCE)
    belongings: Any = Belongings.of(["lamp"])
    watched = belongings.watched()
    assert belongings.once(classes_of) is belongings.once(classes_of)
    belongings.cycle = belongings
    del belongings, sys.modules["lamp"]
    gc.collect()
    assert survivors(watched) == []


def classes_of(belongings: Belongings) -> list[type]:
    return list(belongings.classes)
