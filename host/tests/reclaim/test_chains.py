"""Who holds an object: exact chains for leaks that were planted, and no trace of the search."""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib.util
import subprocess
import sys
import threading
import typing
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import objgraph
import pytest

from weighbridge.reclaim import chains
from weighbridge.reclaim.chains import NOBODY, TOO_FAR, Chain, explain, ways

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


@pytest.fixture(params=["few", "many"])
def search(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to search: from a few things, and from the roots for many, on however big a heap."""
    monkeypatch.setattr(chains, "_MOST", 1 << 40)
    if request.param == "many":
        monkeypatch.setattr(chains, "_CROWD", 0)


@pytest.mark.usefixtures("search")
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


@pytest.mark.usefixtures("search")
def test_an_overload_is_found_in_typings_registry(leaky: ModuleType) -> None:
    """The registry of ``typing.overload`` keeps every overloaded function: the tie says so, and under which keys."""
    ref = planted(
        leaky,
        "def shine(x: int) -> int: ...\ntyping.overload(plant(shine))\ndel shine",
    )
    found = explain([ref()])
    place = "typing._overload_registry['leaky']['shine'][1]"
    assert found == [Chain((place, "module typing"), place)]


@pytest.mark.usefixtures("search")
def test_a_class_is_held_by_its_subclass(leaky: ModuleType) -> None:
    """A base class cannot die before its subclasses."""
    ref = planted(leaky, LEAKS["a subclass's base"][0])
    (found,) = explain([ref()])
    assert found.steps[1:] == ("leaky.Big", "module leaky")
    assert found.steps[0] in {"leaky.Big.__base__", "leaky.Big.__bases__[0]", "leaky.Big.__mro__[1]"}


@pytest.mark.usefixtures("search")
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


@pytest.mark.usefixtures("search")
def test_code_that_runs_keeps_its_module() -> None:
    """A thread that is in a function of a module that was taken out is named as what holds everything else of it."""
    ready, leave = threading.Event(), threading.Event()
    module = ModuleType("retired")
    source = PRELUDE + "lamp = plant(Thing())\ndef run(ready, leave):\n    ready.set()\n    leave.wait()\n"
    exec(compile(source, "/plugins/retired.py", "exec"), vars(module))
    ref: Reference = vars(module)["ref"]
    thread = threading.Thread(target=vars(module)["run"], args=(ready, leave))
    thread.start()
    ready.wait()
    del module
    (found,) = explain([ref()])
    leave.set()
    thread.join()
    line = source[: source.index("leave.wait")].count("\n") + 1
    assert f"frame of run at /plugins/retired.py:{line}.f_globals['lamp']" in found.steps[0]
    assert len(found.steps) == 1


@pytest.mark.usefixtures("search")
def test_a_module_that_is_there_says_more_than_its_code_that_runs(leaky: ModuleType) -> None:
    """What is a global name of a module is held by the module, also while a function of it is running."""
    ready, leave = threading.Event(), threading.Event()
    ref = planted(leaky, "lamp = plant(Thing())\ndef run(ready, leave):\n    ready.set()\n    leave.wait()")
    thread = threading.Thread(target=leaky.run, args=(ready, leave))
    thread.start()
    ready.wait()
    found = explain([ref()])
    leave.set()
    thread.join()
    assert found == [Chain(("leaky.lamp", "module leaky"), "leaky.lamp")]


@pytest.mark.usefixtures("search")
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


@pytest.mark.usefixtures("search")
def test_what_only_c_holds_has_no_holder(leaky: ModuleType) -> None:
    """An object in a C variable is said to be held by nobody that Python can see, and not by a guess."""
    held = ctypes.py_object
    ref = planted(leaky, "thing = plant(Thing())")
    ctypes.pythonapi.Py_IncRef(held(ref()))
    del leaky.thing
    found = explain([ref()], seconds=60)
    ctypes.pythonapi.Py_DecRef(held(ref()))
    assert found == [NOBODY]
    assert ref() is None


def test_an_exit_function_is_suspected_of_atexit(leaky: ModuleType) -> None:
    """The collector does not see what was registered to run at the end, so the tie names that possibility first."""
    ref = planted(leaky, "import atexit\natexit.register(plant(Thing()).tick)")
    (found,) = explain([ref()])
    atexit.unregister(cast("Any", ref()).tick)
    assert "atexit" in found.tie
    assert ref() is None


@pytest.mark.usefixtures("search")
def test_an_object_that_is_not_on_the_collectors_books_has_no_holder(leaky: ModuleType) -> None:
    """A thing that is held by an object that is itself held by nobody is not held by a root."""
    ref = planted(leaky, "outer = Thing()\nouter.inner = plant(Thing())\nouter.inner.outer = outer\ndel outer")
    (found,) = explain([ref()], seconds=60)
    assert found == NOBODY
    gc.collect()
    assert ref() is None


@pytest.mark.usefixtures("search")
def test_all_are_explained_in_one_search_and_in_order(leaky: ModuleType) -> None:
    """Each object gets its own chain, at its own place, also if one of them holds another."""
    exec("outer = Thing()\nouter.inner = Thing()\nlamps = [Thing()]", vars(leaky))
    found = explain([leaky.outer.inner, leaky.lamps[0], leaky.outer])
    assert [chain.tie for chain in found] == ["leaky.outer", "leaky.lamps[0]", "leaky.outer"]
    assert [len(chain.steps) for chain in found] == [3, 2, 2]
    assert explain([]) == []


@pytest.mark.usefixtures("search")
def test_the_shortest_of_several_chains_is_told(leaky: ModuleType) -> None:
    """Who is held in two places reads the shorter one."""
    ref = planted(
        leaky, "a = Thing()\na.b = Thing()\na.b.c = Thing()\na.b.c.lamp = plant(Thing())\nlamps = [a.b.c.lamp]"
    )
    (found,) = explain([ref()])
    assert found.tie == "leaky.lamps[0]"


def retired() -> Reference:
    """A module that is no longer in sys.modules, of which one function lives on in another module."""
    module, keeper = ModuleType("retired"), ModuleType("keeper")
    exec(PRELUDE + "lamp = plant(Thing())\ndef function(): pass", vars(module))
    vars(keeper)["callback"] = vars(module)["function"]
    sys.modules["keeper"] = keeper
    ref: Reference = vars(module)["ref"]
    return ref


@pytest.mark.usefixtures("search")
def test_a_module_that_was_taken_out_is_no_root() -> None:
    """The old module of an unloaded plugin keeps nothing alive by itself; what keeps it is the answer."""
    ref = retired()
    found = explain([ref()])
    del sys.modules["keeper"]
    steps = ("retired.function.__globals__['lamp']", "keeper.callback")
    assert found == [Chain((*steps, "module keeper"), "keeper.callback")]


SIMPLE = (
    "a global name", "a list in a module", "a list in a dict in a module", "an instance attribute in a list",
    "a closure", "a bound method", "a partial", "a default argument", "a class attribute", "a slot",
)  # fmt: skip


@pytest.mark.usefixtures("search")
@pytest.mark.parametrize("leak", SIMPLE)
def test_chains_are_as_short_as_those_of_objgraph(leaky: ModuleType, leak: str) -> None:
    """The search for all at once finds as short a way as objgraph's for each of them."""
    ref = planted(leaky, LEAKS[leak][0])
    theirs = len(objgraph.find_backref_chain(ref(), objgraph.is_proper_module))
    (way,) = ways([ref()])
    ours = len(way)
    assert ours == theirs
    assert ours > 1


# -- the search itself -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("search")
@pytest.mark.parametrize("leak", sorted(LEAKS))
def test_a_search_keeps_nothing_alive(leaky: ModuleType, leak: str) -> None:
    """What was explained dies as it would have without, at once where no cycle holds it; not even a cycle is left."""
    ref = planted(leaky, LEAKS[leak][0])
    gc.collect()
    gc.disable()
    try:
        explain([ref()])  # frames keep the empty copies of their variables
        before = len(gc.get_objects())
        found = explain([ref()])
        grown = len(gc.get_objects()) - before
        assert gc.collect() == 0
    finally:
        gc.enable()
    assert len(found) == 1
    assert grown < 5
    if leak == "a suspended coroutine":
        leaky.job.close()
    vars(leaky).clear()
    gc.collect()
    assert ref() is None


@pytest.mark.usefixtures("search")
def test_a_search_that_ends_early_keeps_nothing_alive(leaky: ModuleType) -> None:
    """Giving up leaves no more behind than finding."""
    ref = planted(leaky, DEEP)
    explain([ref()], seconds=0)
    gc.disable()
    try:
        gc.collect()
        explain([ref()], seconds=0)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_search_from_the_roots_is_given_up_when_there_is_too_much(
    leaky: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has to remember is bounded; beyond that it says that it gave up."""
    ref = planted(leaky, DEEP)
    monkeypatch.setattr(chains, "_CROWD", 0)
    monkeypatch.setattr(chains, "_MOST", 10)
    assert explain([ref()], seconds=60) == [TOO_FAR]


def test_many_things_have_chains_as_short_as_each_of_them_alone(leaky: ModuleType) -> None:
    """A thousand things are explained from the roots, and each way is no longer than that from the thing itself."""
    source = "lamps = [Thing() for _ in range(500)]\nkeep = {n: [Thing()] for n in range(500)}\nfirst = lamps[0]"
    exec(source, vars(leaky))

    def lengths(numbers: range) -> list[int]:
        return [len(way) for way in ways(collect(numbers), seconds=60)]

    def collect(numbers: range) -> list[Any]:
        return [leaky.lamps[number] if number < 500 else leaky.keep[number - 500][0] for number in numbers]

    together = lengths(range(1000))
    assert together == [3] + [4] * 499 + [5] * 500
    assert together[::100] == [lengths(range(number, number + 1))[0] for number in range(0, 1000, 100)]


@pytest.mark.usefixtures("search")
def test_the_list_that_asks_is_no_holder() -> None:
    """What nobody else holds has no holder, although the caller of the search must have it in a list."""

    class Thing:
        pass

    things = [Thing()]
    assert explain(things, seconds=60) == [NOBODY]


DEEP = """
top = first = Thing()
for _ in range(8):
    first.next = Thing()
    first = first.next
first.lamp = plant(Thing())
del first
"""
WIDE = """
top = [[[{"lamp": thing} for _ in range(3000)]] for thing in [plant(Thing())]]
"""


@pytest.mark.usefixtures("search")
def test_a_search_is_given_up_in_time(leaky: ModuleType) -> None:
    """With no time at all a far root is not found, which is said; with time it is."""
    ref = planted(leaky, DEEP)
    assert explain([ref()], seconds=0) == [TOO_FAR]
    (found,) = explain([ref()])
    assert found.tie == "leaky.top"
    assert len(found.steps) == 11


def test_a_crowd_of_holders_is_searched_in_time(leaky: ModuleType) -> None:
    """Three thousand holders are one level like any other: walked through with time, and given up without."""
    ref = planted(leaky, WIDE)
    assert explain([ref()], seconds=0) == [TOO_FAR]
    (found,) = explain([ref()], seconds=60)
    assert found.steps[-1] == "module leaky"
    assert found.tie.startswith("leaky.top[0][0][")
    assert found.tie.endswith("]['lamp']")


@pytest.mark.usefixtures("search")
def test_a_chain_that_is_too_long_is_said_to_be(leaky: ModuleType) -> None:
    """Deeper than the limit of steps the search says that it gave up, not that nobody holds the thing."""
    ref = planted(leaky, DEEP.replace("range(8)", "range(40)"))
    assert explain([ref()], seconds=60) == [TOO_FAR]


HOSTILE = """
import types

def refuse(*arguments, **options):
    raise RuntimeError("it was asked")

class Meta(type):
    armed = False
    def __getattribute__(cls, name):
        if type.__getattribute__(Meta, "armed"):
            refuse()
        return type.__getattribute__(cls, name)
    __instancecheck__ = __subclasscheck__ = refuse

class Hostile(metaclass=Meta):
    __class__ = property(refuse)
    args = func = __self__ = __wrapped__ = property(refuse)
    def __init__(self, lamp): object.__setattr__(self, "lamp", lamp)
    def __getattribute__(self, name): refuse()
    __call__ = __eq__ = __hash__ = __repr__ = __str__ = __bool__ = __iter__ = __len__ = refuse

class HostileDict(dict):
    __class__ = property(refuse)
    items = keys = values = get = __iter__ = __getitem__ = __eq__ = __len__ = __repr__ = refuse

class HostileList(list):
    __class__ = property(refuse)
    __iter__ = __getitem__ = __eq__ = __len__ = __repr__ = refuse

class HostileKey(str):
    __repr__ = __str__ = __format__ = refuse

class HostileModule(types.ModuleType):
    def __getattribute__(self, name): refuse()
"""


@pytest.mark.usefixtures("search")
@pytest.mark.parametrize(
    ("source", "steps"),
    [
        ("bad = Hostile(plant(Thing()))", ("leaky.Hostile.lamp", "leaky.bad")),
        ("bad = HostileDict(lamp=plant(Thing()))", ("leaky.HostileDict['lamp']", "leaky.bad")),
        ("bad = HostileList([plant(Thing())])", ("leaky.HostileList[0]", "leaky.bad")),
        ("bad = {HostileKey('lamp'): plant(Thing())}", ("leaky.bad[<HostileKey>]",)),
        (
            "bad = HostileModule('lazy')\nobject.__getattribute__(bad, '__dict__')['lamp'] = plant(Thing())",
            ("lazy.lamp", "leaky.bad"),
        ),
        ("bad = types.MethodType(Hostile(0), plant(Thing()))", ("bound method leaky.Hostile.__self__", "leaky.bad")),
    ],
    ids=["object", "dict", "list", "key", "module", "method"],
)
def test_a_search_runs_no_code_of_what_it_finds(leaky: ModuleType, source: str, steps: tuple[str, ...]) -> None:
    """Objects that answer every question with an error are named like any other."""
    exec(HOSTILE, vars(leaky))
    ref = planted(leaky, source)
    leaky.Meta.armed = True
    try:
        found = explain([ref()])
    finally:
        type.__setattr__(leaky.Meta, "armed", False)
    assert found == [Chain((*steps, "module leaky"), steps[-1])]


def test_a_lazy_module_on_the_way_is_not_loaded(leaky: ModuleType, tmp_path: Path) -> None:
    """Asking a lazy module for its name would load it; the search does not."""
    file = tmp_path / "lazy_leak.py"
    file.write_text("raise RuntimeError('it was loaded')\n")
    spec = importlib.util.spec_from_file_location("lazy_leak", file)
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ref = planted(leaky, "lamp = plant(Thing())")
    object.__getattribute__(module, "__dict__")["lamp"] = ref()
    del leaky.lamp
    sys.modules["lazy_leak"] = module
    found = explain([ref()])
    del sys.modules["lazy_leak"]
    assert found == [Chain(("lazy_leak.lamp", "module lazy_leak"), "lazy_leak.lamp")]


FUTURES = """
import asyncio, gc
from weighbridge.reclaim import chains

async def main():
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, 1)
    await future

asyncio.run(main())
chains._CROWD = 0
things = [set()]
for _ in range(2):
    chains.explain(things, seconds=60)
gc.collect()
print("collected")
"""


def test_what_a_module_of_c_has_freed_is_not_taken_up() -> None:
    """After the search the collector still comes to an end: _asyncio of Python 3.12 shows objects that it has freed."""
    done = subprocess.run([sys.executable, "-c", FUTURES], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("collected\n", "")
