"""The books on modules: each is charged once, and goes with the last who uses it."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge.accounting import departure as departure_of
from weighbridge.accounting.compiled import is_extension
from weighbridge.accounting.departure import DECLARED, UNASKED, Stay
from weighbridge.accounting.imports import ModuleWeight
from weighbridge.accounting.modules import Departure, ModuleBooks, Split
from weighbridge.accounting.ownership import Ownership, classify, own_package
from weighbridge.accounting.references import referenced
from weighbridge.accounting.tasks import Tasks

Make = Callable[..., ModuleType]


@contextmanager
def made() -> Iterator[Make]:
    """A maker of modules in ``sys.modules`` with the given global names, which are taken out again at the end."""
    names: list[str] = []

    def make(name: str, *, compiled: bool = False, **values: object) -> ModuleType:
        module = ModuleType(name)
        if compiled:
            module.__spec__ = ModuleSpec(name, ExtensionFileLoader(name, f"/nowhere/{name}.so"))
        vars(module).update(values)
        assert name not in sys.modules
        sys.modules[name] = module
        names.append(name)
        return module

    try:
        yield make
    finally:
        for name in names:
            sys.modules.pop(name, None)


@pytest.fixture
def make() -> Iterator[Make]:
    with made() as maker:
        yield maker


def weight(name: str, nbytes: int | None = 100) -> ModuleWeight:
    return ModuleWeight(name=name, file=f"/site/{name}.py", traced_bytes=nbytes, seconds=0.1)


def enter(books: ModuleBooks, plugin: str, **brought: int | None) -> None:
    """What a load of `plugin`, whose package has its name, brought in."""
    weights = [weight(name.replace("__", "."), nbytes) for name, nbytes in brought.items()]
    books.enter(plugin, weights, Ownership(plugin))


def used(books: ModuleBooks, plugin: str) -> dict[str, tuple[str, bool]]:
    """Kind and whether it is shared, by name."""
    return {one.name: (kind, shared) for one, kind, shared in books.of(plugin)}


# -- what belongs to whom ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "own", "kind"),
    [
        ("lamp", "lamp", "own"),
        ("lamp.bulb", "lamp", "own"),
        ("lampshade", "lamp", "dependency"),
        ("space.lamp", "space.lamp", "own"),
        ("space.lamp.bulb", "space.lamp", "own"),
        ("space", "space.lamp", "dependency"),
        ("space.other", "space.lamp", "dependency"),
        ("json", "lamp", "stdlib"),
        ("json.decoder", "lamp", "stdlib"),
        ("_json", "lamp", "stdlib"),
        ("jsonlines", "lamp", "dependency"),
        ("json", "json", "own"),
    ],
)
def test_a_module_is_the_plugins_own_or_the_librarys_or_a_dependencys(name: str, own: str, kind: str) -> None:
    """What counts is the dotted name, not how it begins; a plugin's own name goes before the standard library's."""
    assert classify(name, own) == kind


@pytest.mark.parametrize(
    ("module", "own"),
    [
        ("space.lamp.bulb", "space.lamp"),
        ("space.lamp", "space.lamp"),
        ("space.deep.torch", "space.deep.torch"),
        ("plain.sub.leaf", "plain"),
        ("plain", "plain"),
        ("space.broken.leaf", "space.broken"),
    ],
)
def test_the_own_package_is_the_outermost_that_is_no_namespace(
    module: str, own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A namespace belongs to many distributions, so what one of them owns begins below, also if its import fails."""
    for file in ("space/lamp/__init__.py", "space/lamp/bulb.py", "space/deep/torch.py", "plain/sub/leaf.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("")
    (tmp_path / "plain" / "__init__.py").write_text("")
    (tmp_path / "space" / "broken.py").write_text("raise ImportError('broken')")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    with contextlib.suppress(ImportError):
        importlib.import_module(module)
    found = own_package(module)
    for name in set(sys.modules) - before:
        del sys.modules[name]
    assert found == own


def test_a_compiled_module_is_known_by_its_loader() -> None:
    """A real extension is one; a Python module, a built-in one and no module at all are not."""
    assert psutil is not None
    assert is_extension(sys.modules["psutil._psutil_linux" if sys.platform == "linux" else "psutil._psutil_osx"])
    assert not is_extension(psutil)
    assert not is_extension(sys)
    assert not is_extension(None)
    assert not is_extension(object())


# -- who uses what -----------------------------------------------------------------------------------------------------


def test_a_module_uses_what_its_global_names_come_from(make: Make) -> None:
    """Modules, functions, classes and objects of a class that are global names, and the module's own parents."""
    lib = make("lib")
    make("lib.parts")
    exec("def function(): pass\nclass Class: pass\ninstance = Class()", vars(lib))
    user = make("pack.sub.user", a=lib.function, b=len, c=lib.instance, d=json_like(), e=[lib.function], f=sys)
    assert {"pack", "pack.sub", "lib", "builtins", "sys"} <= set(referenced(user))
    assert "lib.parts" not in set(referenced(user))


def json_like() -> object:
    return {"text": 1}


def test_nothing_is_asked_that_could_run_code(make: Make) -> None:
    """Objects that answer every question with an error, their classes, and lazy modules are only looked at."""

    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            raise RuntimeError(f"asked the class for {name}")

    class Hostile(metaclass=Meta):
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(f"asked for {name}")

    class Lazy(ModuleType):
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(f"asked the module for {name}")

    lazy = Lazy("lazy")
    user = make("user", hostile=Hostile(), cls=Hostile, lazy=lazy)
    sys.modules["user"] = lazy
    assert {"lazy", __name__} <= set(referenced(user))
    assert set(referenced(lazy)) == set()
    assert not is_extension(lazy)
    books = ModuleBooks()
    enter(books, "user", user=1)
    assert used(books, "user") == {"user": ("own", False)}
    assert books.leave("user", dependencies=True).dropped == ("user",)


def test_what_a_plugin_reaches_it_uses(make: Make) -> None:
    """A module that another plugin brought is shared once this one refers to it, over any number of steps."""
    deep = make("deep")
    make("lamp", middle=make("middle", deep=deep))
    books = ModuleBooks()
    enter(books, "lamp", lamp=1, middle=2, deep=4)
    make("torch", middle=sys.modules["middle"])
    enter(books, "torch", torch=8)
    assert used(books, "lamp") == {
        "lamp": ("own", False),
        "middle": ("dependency", True),
        "deep": ("dependency", True),
    }
    assert used(books, "torch") == {
        "middle": ("dependency", True),
        "deep": ("dependency", True),
        "torch": ("own", False),
    }


def test_a_dependency_that_nobody_else_refers_to_is_not_shared(make: Make) -> None:
    """That two plugins are loaded does not make them share."""
    make("lamp", dep=make("dep"))
    make("torch")
    books = ModuleBooks()
    enter(books, "lamp", lamp=1, dep=2)
    enter(books, "torch", torch=4)
    assert used(books, "torch") == {"torch": ("own", False)}
    assert books.shared_bytes() == 0


# -- what is charged ---------------------------------------------------------------------------------------------------


def test_a_shared_module_is_charged_once(make: Make) -> None:
    """It is on the shared line, to be taken off the weighing of who brought it and of nobody else."""
    make("lamp", dep=make("dep"))
    books = ModuleBooks()
    enter(books, "lamp", lamp=10, dep=100, json=1000)
    assert books.split("lamp") == Split(
        modules=2, shared_bytes=0, shared_brought_bytes=0, stdlib_bytes=1000, adopted_bytes=0
    )
    assert (books.shared_bytes(), books.stdlib_bytes()) == (0, 1000)
    make("torch", dep=sys.modules["dep"])
    enter(books, "torch", torch=20)
    assert books.split("lamp") == Split(
        modules=2, shared_bytes=100, shared_brought_bytes=100, stdlib_bytes=1000, adopted_bytes=0
    )
    assert books.split("torch") == Split(
        modules=2, shared_bytes=100, shared_brought_bytes=0, stdlib_bytes=0, adopted_bytes=0
    )
    assert (books.shared_bytes(), books.stdlib_bytes()) == (100, 1000)


def test_the_last_user_adopts_a_shared_module_and_takes_it_along(make: Make) -> None:
    """When who brought it has gone, the one that still uses it is charged for it, and takes it along if asked."""
    make("lamp", dep=make("dep"))
    books = ModuleBooks()
    enter(books, "lamp", lamp=10, dep=100)
    make("torch", dep=sys.modules["dep"])
    enter(books, "torch", torch=20)
    assert books.leave("lamp", dependencies=True) == Departure(
        ("lamp",), {"dep": Stay("shared", "with torch")}, excused_bytes=100
    )
    del sys.modules["lamp"]
    assert books.split("torch") == Split(
        modules=2, shared_bytes=0, shared_brought_bytes=0, stdlib_bytes=0, adopted_bytes=100
    )
    assert books.shared_bytes() == 0
    departure = books.leave("torch", dependencies=True)
    assert set(departure.dropped) == {"torch", "dep"}
    assert departure.kept == {}
    assert departure.excused_bytes == -100


def test_a_second_load_has_not_brought_what_the_first_one_left(make: Make) -> None:
    """A plugin that comes again is charged for the dependency that had stayed, and not credited with the library."""
    make("lamp", dep=make("dep"))
    books = ModuleBooks()
    enter(books, "lamp", lamp=10, dep=100, json=1000)
    departure = books.leave("lamp", dependencies=False)
    assert departure == Departure(("lamp",), {"dep": UNASKED}, excused_bytes=1100, stdlib_bytes=1000)
    assert (books.shared_bytes(), books.stdlib_bytes()) == (100, 1000)
    del sys.modules["lamp"]
    make("lamp", dep=sys.modules["dep"])
    enter(books, "lamp", lamp=10)
    assert books.split("lamp") == Split(
        modules=2, shared_bytes=0, shared_brought_bytes=0, stdlib_bytes=0, adopted_bytes=100
    )
    assert (books.shared_bytes(), books.stdlib_bytes()) == (0, 1000)


def test_what_was_not_measured_is_unknown(make: Make) -> None:
    """If something is on the books and nothing of it was measured the sum is None, not 0; nothing at all is 0."""
    books = ModuleBooks()
    assert (books.shared_bytes(), books.stdlib_bytes()) == (0, 0)
    make("lamp", dep=make("dep"))
    enter(books, "lamp", lamp=None, dep=None, json=None)
    make("torch", dep=sys.modules["dep"])
    enter(books, "torch", torch=None)
    assert (books.shared_bytes(), books.stdlib_bytes()) == (None, None)
    assert books.traced_bytes(["lamp", "dep", "not there"]) == 0


def test_what_the_host_imported_of_the_standard_library_is_on_its_line_alone(make: Make) -> None:
    """It is on no account, whether the plugin refers to it or not, and its unload excuses nothing."""
    make("lamp", scanner=sys.modules["json.scanner"])
    books = ModuleBooks()
    ours = [
        ModuleWeight(name=name, file=None, traced_bytes=1000, seconds=0.1, by_host=True)
        for name in ("json.scanner", "json.decoder")
    ]
    books.enter("lamp", [weight("lamp", 7), weight("numbers", 30), *ours], Ownership("lamp"))
    assert (books.split("lamp").stdlib_bytes, books.stdlib_bytes()) == (30, 2030)
    assert set(used(books, "lamp")) == {"lamp", "numbers", "json.scanner"}
    departure = books.leave("lamp", dependencies=True)
    assert (departure.dropped, departure.stdlib_bytes, departure.excused_bytes) == (("lamp",), 30, 30)
    assert books.stdlib_bytes() == 2030


def test_the_books_know_the_users_of_every_file(make: Make) -> None:
    """For attribution: a file of each module that is not the standard library's, with all who use it."""
    make("lamp", dep=make("dep"))
    books = ModuleBooks()
    enter(books, "lamp", lamp=1, dep=2, json=3)
    make("torch", dep=sys.modules["dep"])
    enter(books, "torch", torch=4)
    assert books.files() == {
        "/site/lamp.py": {"lamp"},
        "/site/dep.py": {"lamp", "torch"},
        "/site/torch.py": {"torch"},
    }


plugins = st.dictionaries(
    st.sampled_from(["pa", "pb", "pc", "pd"]),
    st.tuples(st.integers(1, 1000), st.sets(st.sampled_from(["da", "db", "dc", "json"]))),
    min_size=1,
)


@given(plugins=plugins, data=st.data())
@settings(deadline=None)
def test_every_byte_is_charged_exactly_once(plugins: dict[str, tuple[int, set[str]]], data: st.DataObject) -> None:
    """However plugins come, go and come again, what they hold, the shared line and the library add up to the books."""
    books, traced, weights = ModuleBooks(), dict[str, int](), {"da": 10**4, "db": 10**5, "dc": 10**6, "json": 10**7}
    there = dict[str, int]()
    with made() as make:
        for _ in range(data.draw(st.integers(1, 12))):
            plugin = data.draw(st.sampled_from(sorted(plugins)))
            if plugin in traced:
                departure = books.leave(plugin, dependencies=data.draw(st.booleans()))
                for name in departure.dropped:
                    del sys.modules[name], there[name]
                del traced[plugin]
            else:
                size, dependencies = plugins[plugin]
                new = {name: weights[name] for name in sorted(dependencies) if name not in there} | {plugin: size}
                for name in new:
                    if name not in (plugin, "json"):
                        make(name)
                make(plugin, **{name: sys.modules[name] for name in dependencies if name != "json"})
                enter(books, plugin, **new)
                there |= new
                traced[plugin] = sum(new.values())
            assert books.traced_bytes(there) == sum(there.values())
            shared, stdlib = books.shared_bytes(), books.stdlib_bytes()
            assert shared is not None
            assert stdlib is not None
            assert sum(charged(books, one, traced[one]) for one in traced) + shared + stdlib == sum(there.values())
            assert all(charged(books, one, traced[one]) >= plugins[one][0] for one in traced)


def charged(books: ModuleBooks, plugin: str, traced: int) -> int:
    """What an account shows, as the host draws it."""
    split = books.split(plugin)
    return traced - split.shared_brought_bytes - split.stdlib_bytes + split.adopted_bytes


# -- what goes ---------------------------------------------------------------------------------------------------------


def leave(books: ModuleBooks, plugin: str, **options: bool) -> tuple[set[str], Mapping[str, str]]:
    departure = books.leave(plugin, **{"dependencies": True, **options})
    return set(departure.dropped), {name: stay.reason for name, stay in departure.kept.items()}


def test_a_plugin_goes_with_all_of_its_own_modules(make: Make) -> None:
    """Its package goes whole; modules of the standard library stay and are not even mentioned."""
    make("lamp")
    make("lamp.bulb")
    books = ModuleBooks()
    enter(books, "lamp", lamp=1, lamp__bulb=2, json=4)
    assert leave(books, "lamp", dependencies=False) == ({"lamp", "lamp.bulb"}, {})
    assert used(books, "lamp") == {}


def test_a_dependency_stays_unless_it_is_asked_to_go(make: Make) -> None:
    """By default nothing that others might import later is thrown away."""
    make("lamp", dep=make("dep"))
    books = ModuleBooks()
    enter(books, "lamp", lamp=1, dep=2)
    assert leave(books, "lamp", dependencies=False) == ({"lamp"}, {"dep": "dependency"})


def test_a_dependency_goes_when_it_is_asked_to(make: Make) -> None:
    """A pure-Python dependency that nobody else refers to goes along."""
    make("lamp", dep=make("dep"))
    books = ModuleBooks()
    enter(books, "lamp", lamp=1, dep=2)
    assert leave(books, "lamp") == ({"lamp", "dep"}, {})


def test_a_package_with_a_compiled_module_stays_whole(make: Make) -> None:
    """A C module cannot be loaded twice; its package, and what that refers to, would not work without each other."""
    make("helper")
    make("dep.fast", compiled=True)
    make("dep", helper=sys.modules["helper"])
    make("other")
    make("lamp", dep=sys.modules["dep"], other=sys.modules["other"])
    books = ModuleBooks()
    enter(books, "lamp", lamp=1, dep=2, dep__fast=4, helper=8, other=16)
    departure = books.leave("lamp", dependencies=True)
    assert set(departure.dropped) == {"lamp", "other"}
    why = "dep.fast does not show on this Python how it is initialised"
    assert departure.kept == {
        "dep": Stay("compiled", why),
        "dep.fast": Stay("compiled", why),
        "helper": Stay("compiled", f"dep refers to it, which stays as {why}"),
    }
    assert departure.compiled == ("dep", "dep.fast", "helper")
    assert departure.declared == ()
    assert (departure.excused_bytes, departure.stuck_bytes) == (0, 14)


def test_a_dependency_that_the_application_refers_to_stays(make: Make) -> None:
    """Something that is no plugin has it as a global name, or something of it: it would break without."""
    make("dep.inner")
    make("dep")
    exec("def function(): pass", vars(sys.modules["dep.inner"]))
    make("application", useful=vars(sys.modules["dep.inner"])["function"])
    make("lamp", dep=sys.modules["dep"])
    books = ModuleBooks()
    enter(books, "lamp", lamp=1, dep=2, dep__inner=4)
    assert leave(books, "lamp") == ({"lamp"}, {"dep": "outside", "dep.inner": "outside"})


def test_what_the_standard_library_holds_of_a_dependency_does_not_keep_it(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was put there, as a hook or a patch; to cut that is what ties are for."""
    make("lamp", dep=make("dep"))
    exec("def hook(*arguments): pass", vars(sys.modules["dep"]))
    monkeypatch.setattr(sys, "excepthook", vars(sys.modules["dep"])["hook"])
    books = ModuleBooks()
    enter(books, "lamp", lamp=1, dep=2)
    assert leave(books, "lamp") == ({"lamp", "dep"}, {})


def test_a_dependency_that_another_plugin_uses_stays(make: Make) -> None:
    """It goes with the last of its users, whoever brought it."""
    make("lamp", dep=make("dep"))
    books = ModuleBooks()
    enter(books, "lamp", lamp=1, dep=2)
    make("torch", dep=sys.modules["dep"])
    enter(books, "torch", torch=4)
    assert leave(books, "torch") == ({"torch"}, {"dep": "shared"})
    del sys.modules["torch"]
    assert leave(books, "lamp") == ({"lamp", "dep"}, {})


def test_a_plugin_that_cannot_go_keeps_everything(make: Make) -> None:
    """Where the manifest says so nothing is dropped, and each of its modules says why."""
    make("lamp", dep=make("dep"))
    books = ModuleBooks()
    enter(books, "lamp", lamp=1, dep=2)
    departure = books.leave("lamp", dependencies=True, drop=False)
    assert departure == Departure((), {"lamp": DECLARED, "dep": DECLARED}, stuck_bytes=3)
    assert departure.declared == ("dep", "lamp")


def test_a_module_that_has_left_by_itself_is_off_the_books(make: Make) -> None:
    """What is no longer in sys.modules has to die like the rest, and is not said to be shared."""
    make("lamp", dep=make("dep"))
    make("lamp.bulb")
    books = ModuleBooks()
    enter(books, "lamp", lamp=1, dep=2, lamp__bulb=4)
    del sys.modules["lamp.bulb"], sys.modules["dep"]
    assert leave(books, "lamp", dependencies=False) == ({"lamp", "lamp.bulb", "dep"}, {})
    assert books.shared_bytes() == 0


def test_leaving_twice_does_nothing(make: Make) -> None:
    """Who is not on the books takes nothing along."""
    make("lamp")
    books = ModuleBooks()
    enter(books, "lamp", lamp=1)
    books.leave("lamp", dependencies=True)
    assert books.leave("lamp", dependencies=True) == Departure((), {})


# -- what goes and stays together --------------------------------------------------------------------------------------

LIBRARY = {"dep": "lib", "_dep": "lib", "other": "other", "more": "other"}


def bring(books: ModuleBooks, plugin: str, *names: str, threads: frozenset[int] = frozenset()) -> None:
    """What a load of `plugin` brought in, where metadata tells whose it is."""
    ownership = Ownership(plugin, plugin, {plugin: plugin, f"_{plugin}": plugin, **LIBRARY})
    books.enter(plugin, [weight(name) for name in names], ownership, threads)


def test_own_modules_go_though_they_are_in_several_packages(make: Make) -> None:
    """Metadata says that they are of one distribution."""
    make("lamp", inner=make("_lamp"))
    books = ModuleBooks()
    bring(books, "lamp", "lamp", "_lamp")
    assert leave(books, "lamp", dependencies=False) == ({"lamp", "_lamp"}, {})


def test_a_distribution_with_a_compiled_module_stays_whole(make: Make) -> None:
    """Also its packages that have nothing compiled; another distribution goes."""
    make("lamp", dep=make("dep"), other=make("other"))
    make("_dep", compiled=True)
    books = ModuleBooks()
    bring(books, "lamp", "lamp", "dep", "_dep", "other")
    assert leave(books, "lamp") == ({"lamp", "other"}, {"dep": "compiled", "_dep": "compiled"})


def test_a_plugin_with_a_compiled_module_keeps_what_it_refers_to(make: Make) -> None:
    """What stays would not work without, so that was to go and cannot, either."""
    make("lamp", dep=make("dep"))
    make("lamp.fast", compiled=True)
    books = ModuleBooks()
    bring(books, "lamp", "lamp", "lamp.fast", "dep")
    departure = books.leave("lamp", dependencies=True)
    assert departure.compiled == ("dep", "lamp", "lamp.fast")
    assert departure.kept["dep"].words == (
        "compiled: lamp refers to it, which stays as lamp.fast does not show on this Python how it is initialised"
    )


def test_a_distribution_of_which_another_plugin_uses_a_part_stays_whole(make: Make) -> None:
    """A part that is loaded anew would have other classes than the part that is in use."""
    make("lamp", other=make("other"), more=make("more"))
    books = ModuleBooks()
    bring(books, "lamp", "lamp", "other", "more")
    make("torch", more=sys.modules["more"])
    bring(books, "torch", "torch")
    departure = books.leave("lamp", dependencies=True)
    assert {name: stay.words for name, stay in departure.kept.items()} == {
        "other": "shared: torch uses another part of other",
        "more": "shared: with torch",
    }
    del sys.modules["lamp"]
    assert leave(books, "torch") == ({"torch", "other", "more"}, {})


def test_who_refers_to_a_dependency_is_named(make: Make) -> None:
    """The one outside, and what leads on from there."""
    make("other", helper=make("helper"))
    make("application", other=sys.modules["other"])
    make("lamp", other=sys.modules["other"])
    books = ModuleBooks()
    bring(books, "lamp", "lamp", "other", "helper")
    departure = books.leave("lamp", dependencies=True)
    assert {name: stay.words for name, stay in departure.kept.items()} == {
        "other": "outside: application refers to it",
        "helper": "outside: other refers to it, which stays as application refers to it",
    }


def test_a_compiled_module_stays_while_threads_run_that_came_with_it(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be its own and cannot be stopped; when they have ended it can go. Pure Python started none."""
    monkeypatch.setattr(departure_of, "obstacle", lambda module: None)
    running = {7, 8}
    monkeypatch.setattr(Tasks, "now", lambda: Tasks(frozenset(running), frozenset()))
    make("dep.fast", compiled=True)
    make("lamp", dep=make("dep"), other=make("other"))
    books = ModuleBooks()
    bring(books, "lamp", "lamp", "dep", "dep.fast", "other", threads=frozenset({7, 9}))
    departure = books.leave("lamp", dependencies=True)
    assert set(departure.dropped) == {"lamp", "other"}
    assert departure.compiled == ("dep", "dep.fast")
    assert departure.kept["dep"].words == "threads: dep.fast came with 1 thread that Python cannot stop"
    del sys.modules["lamp"]
    make("lamp", dep=sys.modules["dep"])
    bring(books, "lamp", "lamp")
    running.discard(7)
    assert leave(books, "lamp") == ({"lamp", "dep", "dep.fast"}, {})


# -- what is left behind -----------------------------------------------------------------------------------------------


def test_what_a_plugin_left_behind_is_charged_to_nobody_again(make: Make) -> None:
    """It is on that plugin's account as stranded, so it is not on the shared line, nor adopted by who reuses it."""
    make("lamp.fast", compiled=True)
    make("lamp")
    books = ModuleBooks()
    enter(books, "lamp", lamp=1, lamp__fast=2, json=4)
    departure = books.leave("lamp", dependencies=True)
    assert (departure.dropped, departure.stuck_bytes, departure.stdlib_bytes) == ((), 3, 4)
    assert (books.shared_bytes(), books.files()) == (0, {})
    enter(books, "lamp")
    assert books.split("lamp") == Split(
        modules=2, shared_bytes=0, shared_brought_bytes=0, stdlib_bytes=0, adopted_bytes=0, left_bytes=3
    )
    make("torch", lamp=sys.modules["lamp"])
    enter(books, "torch", torch=8)
    assert (books.split("torch").shared_bytes, books.shared_bytes()) == (0, 0)
    again = books.leave("lamp", dependencies=True)
    assert {name: stay.words for name, stay in again.kept.items()} == {"lamp": "shared: with torch"} | {
        "lamp.fast": "compiled: lamp.fast does not show on this Python how it is initialised"
    }
    assert again.stuck_bytes == 0


def test_what_a_plugin_left_behind_does_not_go_with_another(make: Make) -> None:
    """Its manifest said that it cannot go; that somebody else goes does not change that."""
    make("lamp")
    books = ModuleBooks()
    enter(books, "lamp", lamp=1)
    books.leave("lamp", dependencies=True, drop=False)
    make("torch", lamp=sys.modules["lamp"])
    enter(books, "torch", torch=2)
    departure = books.leave("torch", dependencies=True)
    assert departure.dropped == ("torch",)
    assert departure.kept == {"lamp": Stay("shared", "with lamp, which left it behind")}


def test_what_was_stuck_and_not_measured_is_unknown(make: Make) -> None:
    """It is None, not 0."""
    make("lamp")
    books = ModuleBooks()
    enter(books, "lamp", lamp=None, json=None)
    departure = books.leave("lamp", dependencies=True, drop=False)
    assert (departure.stuck_bytes, departure.stdlib_bytes) == (None, None)
