"""Who holds an object: exact chains for leaks that were planted, and no trace of the search."""

from __future__ import annotations

import atexit
import gc
import sys
import threading
import time
import typing
import weakref
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import objgraph
import pytest

from weighbridge.reclaim import chains
from weighbridge.reclaim.chains import NOBODY, TOO_FAR, Chain, explain

PRELUDE = """
import collections, functools, typing, weakref

class Thing:
    def tick(self): pass

class Slotted:
    __slots__ = ("lamp",)

ref = None

def plant(thing):
    global ref
    ref = weakref.ref(thing)
    return thing
"""
Reference = weakref.ref[Any]


@pytest.fixture
def leaky() -> Iterator[ModuleType]:
    """A module to plant leaks in; ``ref`` is a weak reference to what was planted last."""
    module = ModuleType("leaky")
    sys.modules["leaky"] = module
    exec(compile(PRELUDE, "/plugins/leaky.py", "exec"), vars(module))
    yield module
    sys.modules.pop("leaky")
    vars(module).clear()
    typing.clear_overloads()


def planted(module: ModuleType, source: str) -> Reference:
    """Run source in the module; the weak reference to what it planted."""
    exec(compile(source, "/plugins/leaky.py", "exec"), vars(module))
    reference: Reference = vars(module)["ref"]
    assert reference() is not None
    return reference


LEAKS = {
    "a global name": ("lamp = plant(Thing())", ["leaky.lamp"]),
    "a list in a module": ("lamps = [0, plant(Thing())]", ["leaky.lamps[1]"]),
    "a list in a dict in a module": ("lamps = {'a': {7: [plant(Thing())]}}", ["leaky.lamps['a'][7][0]"]),
    "a key": ("lamps = {plant(Thing()): 1}", ["leaky.lamps[key]"]),
    "a value under a strange key": ("lamps = {Thing: plant(Thing())}", ["leaky.lamps[<type>]"]),
    "a value under a long key": ("lamps = {'x' * 99: plant(Thing())}", [f"leaky.lamps['{'x' * 56}...]"]),
    "a set": ("lamps = {plant(Thing())}", ["leaky.lamps[...]"]),
    "a tuple": ("lamps = (None, (plant(Thing()),))", ["leaky.lamps[1][0]"]),
    "a default dict": (
        "lamps = collections.defaultdict(list)\nlamps['a'].append(plant(Thing()))",
        ["leaky.lamps['a'][0]"],
    ),
    "a deque": ("lamps = collections.deque([plant(Thing())])", ["deque", "leaky.lamps"]),
    "an instance attribute": ("app = Thing()\napp.lamp = plant(Thing())", ["leaky.Thing.lamp", "leaky.app"]),
    "an instance attribute in a list": (
        "app = Thing()\napp.lamps = [plant(Thing())]",
        ["leaky.Thing.lamps[0]", "leaky.app"],
    ),
    "a slot": ("app = Slotted()\napp.lamp = plant(Thing())", ["leaky.Slotted.lamp", "leaky.app"]),
    "an attribute of a list's subclass": (
        "class Lamps(list): pass\nlamps = Lamps()\nlamps.first = plant(Thing())",
        ["leaky.Lamps.first", "leaky.lamps"],
    ),
    "a class attribute": ("Thing.default = plant(Thing())", ["leaky.Thing.default", "leaky.Thing"]),
    "a closure": (
        "def make():\n    thing = plant(Thing())\n    return lambda: thing\ncallback = make()",
        ["cell.cell_contents", "leaky.make.<locals>.<lambda>.__closure__[0]", "leaky.callback"],
    ),
    "a default argument": (
        "def function(a, b=plant(Thing())): pass",
        ["leaky.function.__defaults__[0]", "leaky.function"],
    ),
    "an attribute of a function": (
        "def function(): pass\nfunction.lamp = plant(Thing())",
        ["leaky.function.lamp", "leaky.function"],
    ),
    "lru_cache": (
        "@functools.lru_cache\ndef load(size): return plant(Thing())\nload(5)",
        ["functools._lru_cache_wrapper", "leaky.load"],
    ),
    "cached_property": (
        "class App:\n    @functools.cached_property\n    def lamp(self): return plant(Thing())\napp = App()\napp.lamp",
        ["leaky.App.lamp", "leaky.app"],
    ),
    "a partial": (
        "job = functools.partial(print, plant(Thing()))",
        ["functools.partial.args[0]", "leaky.job"],
    ),
    "a bound method": ("jobs = [plant(Thing()).tick]", ["bound method Thing.tick.__self__", "leaky.jobs[0]"]),
    "a method of a built-in type": (
        "class Lamps(list): pass\njob = plant(Lamps()).append",
        ["built-in Lamps.append.__self__", "leaky.job"],
    ),
    "a suspended generator": (
        "def walk():\n    lamp = plant(Thing())\n    yield\njob = walk()\nnext(job)",
        ["suspended generator walk, local 'lamp'", "leaky.job"],
    ),
    "a suspended coroutine": (
        "import types\n@types.coroutine\ndef pause(): yield\n"
        "async def walk():\n    lamp = plant(Thing())\n    await pause()\njob = walk()\njob.send(None)",
        ["suspended coroutine walk, local 'lamp'", "leaky.job"],
    ),
    "a subclass's base": ("class Lamp: pass\nclass Big(Lamp): pass\nplant(Lamp)\ndel Lamp", None),
}


@pytest.mark.parametrize("leak", [name for name, (_, steps) in LEAKS.items() if steps])
def test_a_planted_leak_is_named_exactly(leaky: ModuleType, leak: str) -> None:
    """The chain goes from the holder to the module, as one would write it; the tie is the place in the module."""
    source, steps = LEAKS[leak]
    assert steps is not None
    ref = planted(leaky, source)
    found = explain([ref()])
    assert found == [Chain((*steps, "module leaky"), steps[-1])]
    if leak == "a suspended coroutine":
        leaky.job.close()


def test_an_overload_is_found_in_typings_registry(leaky: ModuleType) -> None:
    """The registry of ``typing.overload`` keeps every overloaded function: the tie says so, and under which keys."""
    ref = planted(
        leaky,
        "@typing.overload\ndef shine(x: int) -> int: ...\nplant(shine)\ndel shine",
    )
    found = explain([ref()])
    place = "typing._overload_registry['leaky']['shine'][1]"
    assert found == [Chain((place, "module typing"), place)]


def test_a_class_is_held_by_its_subclass(leaky: ModuleType) -> None:
    """A base class cannot die before its subclasses."""
    ref = planted(leaky, LEAKS["a subclass's base"][0])
    (found,) = explain([ref()])
    assert found.steps[1:] == ("leaky.Big", "module leaky")
    assert found.steps[0] in {"leaky.Big.__base__", "leaky.Big.__bases__[0]", "leaky.Big.__mro__[1]"}


def test_a_local_variable_of_a_running_thread_is_named() -> None:
    """The collector does not know running frames; the chain names function, file, line and variable all the same."""

    class Thing:
        pass

    refs, ready, leave = list[Reference](), threading.Event(), threading.Event()

    def hold() -> None:
        lamp = Thing()
        refs.append(weakref.ref(lamp))
        ready.set()
        leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait()
    found = explain([refs[0]()])
    leave.set()
    thread.join()
    line = hold.__code__.co_firstlineno + 4
    step = f"frame of {hold.__qualname__} at {__file__}:{line}, local 'lamp'"
    assert found == [Chain((step,), step)]
    assert refs[0]() is None


def test_what_a_running_function_lets_go_of_is_not_kept_by_the_search() -> None:
    """Reading a frame's variables must not keep them: a function that goes on can still drop what it had."""

    class Thing:
        pass

    refs, ready, drop, dropped, leave = list[Reference](), *(threading.Event() for _ in range(4))

    def hold() -> None:
        lamp = [Thing()]
        refs.append(weakref.ref(lamp[0]))
        ready.set()
        drop.wait()
        del lamp
        dropped.set()
        leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait()
    (found,) = explain([refs[0]()])
    drop.set()
    dropped.wait()
    alive = refs[0]() is not None
    leave.set()
    thread.join()
    assert found.tie.endswith("local 'lamp'[0]")
    assert not alive or sys.gettrace() is not None  # a debugger needs the copy


def test_what_only_c_holds_has_no_holder(leaky: ModuleType) -> None:
    """An object in a C variable is said to be held by nobody that Python can see, and not by a guess."""
    ref = planted(leaky, "local = [plant(Thing())]")
    slot = threading.local()
    ref = planted(leaky, "things = [plant(Thing()).tick]")
    atexit.register(leaky.things.pop())
    found = explain([ref()])
    atexit.unregister(ref().tick)  # type: ignore[union-attr]
    assert len(found) == 1
    assert not hasattr(slot, "x")
    assert found[0].steps[-1:] in [(), ("atexit",), ("module atexit",)]
