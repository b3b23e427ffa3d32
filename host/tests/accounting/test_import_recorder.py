"""What an import brings in, measured on real packages, and that nothing of the scales is left."""

from __future__ import annotations

import gc
import importlib
import importlib.machinery
import importlib.util
import sys
import threading
import tracemalloc
import weakref
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from weighbridge_hookspecs import LoadFailed

from weighbridge.accounting import imports, ownership
from weighbridge.accounting.imports import ImportRecorder, ModuleWeight
from weighbridge.isolation import IsolatedHost
from weighbridge.testing import TemporaryPlugin

BIG = 123 * 8 * 1024
"""Bytes that a test module holds, recognisable and far above what its code weighs."""
SLACK = 100 * 1024


class Site:
    """A folder on ``sys.path`` for the packages of one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, files: Mapping[str, str] | None = None, /, **modules: str) -> None:
        """Write modules by name, or files of packages by path."""
        texts = {f"{name}.py": source for name, source in modules.items()} | dict(files or {})
        for name, source in texts.items():
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source, encoding="utf-8")
        importlib.invalidate_caches()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before, finders = set(sys.modules), list(sys.meta_path)
    yield Site(folder)
    for name in set(sys.modules) - before:
        del sys.modules[name]
    assert sys.meta_path == finders


@pytest.fixture
def tracing() -> Iterator[None]:
    tracemalloc.start(1)
    yield
    tracemalloc.stop()


def recorded(*names: str) -> dict[str, ModuleWeight]:
    """Import modules, and what that brought in, by name."""
    with ImportRecorder() as recorder:
        for name in names:
            importlib.import_module(name)
        return {weight.name: weight for weight in recorder.brought()}


def leftovers(names: Sequence[str]) -> list[str]:
    """Modules with a loader that still has a scale on it."""
    loaders = {name: getattr(sys.modules[name].__spec__, "loader", None) for name in names if name in sys.modules}
    return [name for name, loader in loaders.items() if "exec_module" in getattr(loader, "__dict__", {})]


def data(nbytes: int = BIG) -> str:
    return f"data = bytearray({nbytes})\n"


# -- what is brought ---------------------------------------------------------------------------------------------------


def test_nested_imports_are_weighed_exclusively(site: Site, tracing: None) -> None:
    """Each module has its own bytes, without those of the modules that it imports in turn."""
    site.write(outer="import middle\n" + data(3 * BIG), middle=data(2 * BIG) + "import inner\n", inner=data(BIG))
    brought = recorded("outer")
    assert list(brought) == ["inner", "middle", "outer"]
    for name, times in (("outer", 3), ("middle", 2), ("inner", 1)):
        traced = brought[name].traced_bytes
        assert traced is not None
        assert abs(traced - times * BIG) < SLACK


def test_nested_imports_are_timed_exclusively(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The seconds of a module are without those of what it imports, before or after: measured with a clock of ours."""
    site.write(
        clock="now = 0.0\n",
        outer="import clock\nclock.now += 1\nimport middle\nclock.now += 2\nimport inner\nclock.now += 4\n",
        middle="import clock\nclock.now += 8\nimport inner\nclock.now += 16\n",
        inner="import clock\nclock.now += 32\n",
    )
    clock = importlib.import_module("clock")
    monkeypatch.setattr(imports, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    brought = recorded("outer")
    assert {name: weight.seconds for name, weight in brought.items()} == {"outer": 7.0, "middle": 24.0, "inner": 32.0}


def test_without_tracing_bytes_are_unknown(site: Site) -> None:
    """Where tracemalloc is off the bytes are None, never 0; the modules are known all the same, with their files."""
    site.write(outer="import inner\n", inner="")
    brought = recorded("outer")
    assert {name: weight.traced_bytes for name, weight in brought.items()} == {"outer": None, "inner": None}
    assert {weight.file for weight in brought.values()} == {
        str(site.folder / "outer.py"),
        str(site.folder / "inner.py"),
    }


def test_what_was_there_before_is_not_brought(site: Site) -> None:
    """Only what is new counts: a module that was imported before is nobody's."""
    site.write(old="", new="import old\n")
    importlib.import_module("old")
    assert list(recorded("new")) == ["new"]


def test_packages_come_with_their_submodules(site: Site) -> None:
    """A package and every module of it that was imported are brought, parents first."""
    site.write({"pack/__init__.py": "", "pack/sub/__init__.py": "", "pack/sub/leaf.py": ""})
    assert list(recorded("pack.sub.leaf")) == ["pack", "pack.sub", "pack.sub.leaf"]


def test_a_namespace_package_is_brought_without_a_file(site: Site) -> None:
    """A folder without ``__init__`` has a loader but no file and executes nothing worth weighing."""
    site.write({"space/leaf.py": ""})
    brought = recorded("space.leaf")
    assert list(brought) == ["space", "space.leaf"]
    assert brought["space"].file is None
    assert brought["space.leaf"].file == str(site.folder / "space" / "leaf.py")
    assert leftovers(list(brought)) == []


def test_modules_from_a_zip_file_are_weighed(site: Site, tracing: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """All modules of an archive share one loader; each is weighed by itself, and the loader is left as it was."""
    archive = site.folder / "zipped.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("zipped_a.py", "import zipped_b\n" + data(2 * BIG))
        file.writestr("zipped_b.py", data())
    monkeypatch.syspath_prepend(str(archive))
    brought = recorded("zipped_a")
    assert list(brought) == ["zipped_b", "zipped_a"]
    for name, times in (("zipped_a", 2), ("zipped_b", 1)):
        traced = brought[name].traced_bytes
        assert traced is not None
        assert abs(traced - times * BIG) < SLACK
    assert leftovers(list(brought)) == []


@pytest.mark.parametrize(
    ("name", "loader"),
    [("__hello__", importlib.machinery.FrozenImporter), ("_symtable", importlib.machinery.BuiltinImporter)],
)
def test_modules_of_class_loaders_are_brought_unweighed(
    name: str, loader: type, tracing: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen and built-in modules are loaded by classes, which nobody may write on: they are named, not weighed."""
    monkeypatch.delitem(sys.modules, name, raising=False)
    had = dict(vars(loader))
    with ImportRecorder() as recorder:
        module = importlib.import_module(name)
        brought = {weight.name: weight for weight in recorder.brought()}
        assert dict(vars(loader)) == had
    del sys.modules[name]
    assert vars(module)["__spec__"].loader is loader
    assert (brought[name].traced_bytes, brought[name].seconds) == (None, None)


def test_a_module_that_replaces_itself_is_brought(site: Site, tracing: None) -> None:
    """What a module puts into sys.modules in its own place is on the books under its name, with its weight."""
    site.write(
        chameleon=data()
        + "import sys\nclass Other:\n    held = data\n    __slots__ = ()\nsys.modules[__name__] = Other()\n"
    )
    brought = recorded("chameleon")
    traced = brought["chameleon"].traced_bytes
    assert traced is not None
    assert traced >= BIG
    assert brought["chameleon"].file is None


def test_a_hostile_object_in_sys_modules_is_not_asked(site: Site) -> None:
    """Weighing never runs code of what stands in for a module: neither its ``__getattr__`` nor a lazy import."""
    site.write(
        hostile="""
import sys

class Hostile:
    def __getattribute__(self, name):
        raise RuntimeError(f"asked for {name}")

sys.modules[__name__] = Hostile()
sys.modules["blocked_by_hostile"] = None
""",
        lazy="raise RuntimeError('it was loaded')\n",
    )
    with ImportRecorder() as recorder:
        importlib.import_module("hostile")
        spec = importlib.util.find_spec("lazy")
        assert spec is not None
        assert spec.loader is not None
        spec.loader = importlib.util.LazyLoader(spec.loader)
        module = importlib.util.module_from_spec(spec)
        sys.modules["lazy"] = module
        spec.loader.exec_module(module)
        brought = {weight.name: weight for weight in recorder.brought()}
    assert brought["hostile"].file is None
    assert brought["blocked_by_hostile"].file is None
    assert brought["lazy"].file == str(site.folder / "lazy.py")
    del sys.modules["hostile"]


def test_a_module_that_removes_itself_is_not_brought(site: Site) -> None:
    """Only what is in sys.modules at the end is on the books."""
    site.write(keeper="import ghost\n", ghost="")
    with ImportRecorder() as recorder:
        importlib.import_module("keeper")
        del sys.modules["ghost"]
        assert [weight.name for weight in recorder.brought()] == ["keeper"]


def test_a_module_that_fails_is_not_brought_and_costs_nobody(site: Site, tracing: None) -> None:
    """What an optional import allocated before it failed is not charged to the module that tried it."""
    site.write(
        tries="try:\n    import fails\nexcept ImportError:\n    pass\n" + data(),
        fails=f"import keeps\nkeeps.kept = bytearray({5 * BIG})\nraise ImportError('no')\n",
        keeps="",
    )
    brought = recorded("tries")
    assert "fails" not in brought
    traced = brought["tries"].traced_bytes
    assert traced is not None
    assert abs(traced - BIG) < SLACK


def test_a_finder_of_somebody_elses_is_asked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Import hooks of the application behind the recorder work as without it."""

    class Loader:
        def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
            """Let Python make it."""

        def exec_module(self, module: ModuleType) -> None:
            vars(module)["answer"] = 42

    class Finder:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
            loader: Any = Loader()
            return importlib.machinery.ModuleSpec(name, loader) if name == "from_nowhere" else None

    finder = Finder()
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    brought = recorded("from_nowhere")
    assert sys.modules["from_nowhere"].answer == 42
    assert brought["from_nowhere"].seconds is not None
    assert brought["from_nowhere"].file is None
    assert leftovers(["from_nowhere"]) == []
    del sys.modules["from_nowhere"]
    sys.meta_path.remove(finder)


def test_what_nobody_finds_is_not_found(site: Site) -> None:
    """A missing module is a ModuleNotFoundError as without the recorder, and is on no books."""
    with ImportRecorder() as recorder:
        with pytest.raises(ModuleNotFoundError, match="No module named 'never_written'"):
            importlib.import_module("never_written")
        assert recorder.brought() == ()


class Unwritable:
    """A loader that allows no attribute of its own."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Let Python make it."""

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["answer"] = 42

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


class Slotted(Unwritable):
    __slots__ = ()


class Old:
    """A loader from before ``exec_module``."""

    def load_module(self, name: str) -> ModuleType:
        module = sys.modules[name] = ModuleType(name)
        vars(module)["answer"] = 42
        return module


@pytest.mark.filterwarnings("ignore:.*load_module:DeprecationWarning", "ignore:.*exec_module:ImportWarning")
@pytest.mark.parametrize("loader", [Unwritable(), Slotted(), Old()], ids=lambda loader: type(loader).__name__)
def test_a_loader_that_takes_no_scale_loads_as_ever(site: Site, monkeypatch: pytest.MonkeyPatch, loader: Any) -> None:
    """Where no scale can be put on, the module is imported and brought, unweighed."""

    class Finder:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
            return importlib.machinery.ModuleSpec(name, loader) if name == "from_nowhere" else None

    finder = Finder()
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    brought = recorded("from_nowhere")
    assert sys.modules["from_nowhere"].answer == 42
    assert (brought["from_nowhere"].traced_bytes, brought["from_nowhere"].seconds) == (None, None)
    sys.meta_path.remove(finder)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python 3.12 skips finders without find_spec")
@pytest.mark.filterwarnings("ignore:.*find_spec:ImportWarning")
def test_a_finder_from_before_find_spec_is_left_to_python(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands behind an old finder is found by Python itself, unweighed."""

    class Finder:
        @staticmethod
        def find_module(name: str, path: object = None) -> None:
            """Find nothing."""

    site.write(plain="")
    finder: Any = Finder()
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    brought = recorded("plain")
    assert brought["plain"].seconds is None
    sys.meta_path.remove(finder)


# -- what is left ------------------------------------------------------------------------------------------------------


def test_loaders_are_left_as_they_were(site: Site) -> None:
    """The scale is taken off every loader: of modules, of packages, of what was only looked for."""
    site.write({"pack/__init__.py": "import leaf\n", "leaf.py": "", "looked_for.py": ""})
    with ImportRecorder() as recorder:
        importlib.import_module("pack")
        spec = importlib.util.find_spec("looked_for")
        names = [weight.name for weight in recorder.brought()]
        assert leftovers(names) == names
    assert leftovers(names) == []
    assert spec is not None
    assert "exec_module" not in vars(spec.loader)
    assert importlib.reload(sys.modules["leaf"]) is sys.modules["leaf"]


def test_sys_meta_path_is_restored(site: Site) -> None:
    """The recorder is the first finder inside and gone outside; who goes along the old list misses nobody."""
    before = list(sys.meta_path)
    with ImportRecorder() as recorder:
        inside = sys.meta_path
        assert inside[0] is recorder
    assert sys.meta_path == before
    assert inside == [recorder, *before]


def test_everything_is_restored_when_an_import_raises(site: Site) -> None:
    """An import that fails reaches the caller unchanged, and leaves neither finder nor scale nor traceback."""
    site.write(breaks="import fine\nraise ValueError('broken')\n", fine="")
    before = list(sys.meta_path)
    with pytest.raises(ValueError, match="broken"):
        recorded("breaks")
    assert sys.meta_path == before
    assert "breaks" not in sys.modules
    assert leftovers(["fine"]) == []


def test_a_finder_with_an_odd_equality_stays(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finder that claims to be equal to everything is neither asked twice nor taken out in the recorder's place."""

    class Equal:
        asked = 0

        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            self.asked += 1

    site.write(plain="")
    odd, finders = Equal(), list(sys.meta_path)
    with ImportRecorder() as recorder:
        sys.meta_path.insert(0, odd)
        importlib.import_module("plain")
        assert [weight.name for weight in recorder.brought()] == ["plain"]
    assert sys.meta_path[0] is odd
    assert odd.asked == 1
    del sys.meta_path[0]
    assert all(one is other for one, other in zip(sys.meta_path, finders, strict=True))


def test_recorders_nest(site: Site) -> None:
    """A plugin that is loaded while another one is being loaded is on both lists, and both recorders clean up."""
    site.write(first="", second="")
    before = list(sys.meta_path)
    with ImportRecorder() as outer:
        importlib.import_module("first")
        with ImportRecorder() as inner:
            importlib.import_module("second")
            assert [weight.name for weight in inner.brought()] == ["second"]
        assert [weight.name for weight in outer.brought()] == ["first", "second"]
    assert sys.meta_path == before
    assert leftovers(["first", "second"]) == []


def test_recorders_that_overlap_leave_the_very_list_that_they_found(site: Site) -> None:
    """The one that came first may go first: the list is the interpreter's own again when both have gone."""
    finders, before = sys.meta_path, list(sys.meta_path)
    first, second = ImportRecorder(), ImportRecorder()
    first.__enter__()
    second.__enter__()
    first.__exit__()
    assert [finder for finder in sys.meta_path if type(finder) is ImportRecorder] == [second]
    second.__exit__()
    assert sys.meta_path is finders
    assert finders == before


def test_a_recorder_holds_no_module(site: Site) -> None:
    """With the recorder and its list still at hand, the modules can die."""
    site.write(mortal="")
    with ImportRecorder() as recorder:
        importlib.import_module("mortal")
        brought = recorder.brought()
    reference = weakref.ref(sys.modules.pop("mortal"))
    gc.collect()
    assert reference() is None
    assert [weight.name for weight in brought] == ["mortal"]


def test_fifty_recordings_leave_nothing(site: Site) -> None:
    """After warming up, modules that came and went leave as many objects as there were."""
    site.write(mortal="class Thing: pass\n")

    def come_and_go() -> None:
        assert list(recorded("mortal")) == ["mortal"]
        del sys.modules["mortal"]
        gc.collect()

    come_and_go()
    come_and_go()
    before = len(gc.get_objects())
    for _ in range(50):
        come_and_go()
    assert len(gc.get_objects()) - before < 20


# -- threads -----------------------------------------------------------------------------------------------------------


def test_imports_of_a_thread_that_was_there_before_are_not_counted(site: Site) -> None:
    """While a plugin is loaded the rest of the program may import what it likes: that is not the plugin's."""
    site.write(ours="", theirs="")
    go, done = threading.Event(), threading.Event()

    def work() -> None:
        go.wait()
        importlib.import_module("theirs")
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    with ImportRecorder() as recorder:
        go.set()
        done.wait()
        importlib.import_module("ours")
        names = [weight.name for weight in recorder.brought()]
    thread.join()
    assert "theirs" in sys.modules
    assert names == ["ours"]
    assert leftovers(["theirs"]) == []


def test_imports_of_a_thread_that_was_started_inside_are_counted(site: Site, tracing: None) -> None:
    """A plugin that imports in a thread of its own does not get it for nothing, and each thread has its own scale."""
    site.write(
        outer="import threading\nt = threading.Thread(target=__import__, args=('inner',))\nt.start()\nt.join()\n"
    )
    site.write(inner=data())
    brought = recorded("outer")
    assert set(brought) == {"outer", "inner"}
    traced = brought["inner"].traced_bytes
    assert traced is not None
    assert abs(traced - BIG) < SLACK


def test_a_new_thread_with_an_old_identifier_is_counted(site: Site) -> None:
    """The system gives identifiers of threads that have ended to new ones, which are the plugin's all the same."""
    site.write(late="")
    leave = threading.Event()
    old = threading.Thread(target=leave.wait)
    old.start()
    with ImportRecorder() as recorder:
        leave.set()
        old.join()
        for _ in range(1000):
            thread = threading.Thread(target=__import__, args=("late",))
            thread.start()
            thread.join()
            if thread.ident == old.ident:
                break
            sys.modules.pop("late")
        else:
            pytest.skip("this system does not use identifiers again")
        assert [weight.name for weight in recorder.brought()] == ["late"]


def test_what_another_thread_looked_for_in_vain_is_counted(site: Site) -> None:
    """A module that a foreign thread did not find is the plugin's once the plugin's own thread finds it."""
    go, done = threading.Event(), threading.Event()

    def work() -> None:
        go.wait()
        importlib.util.find_spec("not_yet")
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    with ImportRecorder() as recorder:
        go.set()
        done.wait()
        site.write(not_yet="")
        importlib.import_module("not_yet")
        names = [weight.name for weight in recorder.brought()]
    thread.join()
    assert names == ["not_yet"]


def test_an_import_that_was_under_way_is_not_counted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread asked the finders before the recorder was among them, and comes to its module meanwhile."""
    site.write(theirs="", ours="")
    inside, resume = threading.Event(), threading.Event()

    class Slow:
        """Lets the others find, in a while."""

        def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
            if name == "theirs":
                inside.set()
                resume.wait()

    slow = Slow()
    monkeypatch.setattr(sys, "meta_path", [slow, *sys.meta_path])
    thread = threading.Thread(target=importlib.import_module, args=("theirs",))
    thread.start()
    inside.wait()
    with ImportRecorder() as recorder:
        resume.set()
        thread.join()
        importlib.import_module("ours")
    sys.meta_path.remove(slow)
    assert "theirs" in sys.modules
    assert [weight.name for weight in recorder.brought()] == ["ours"]


def test_an_import_that_outlasts_the_recorder_gets_no_scale(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that is still looking for a module when the recording ends finds it, and its loader stays clean."""
    site.write(slow_to_find="")
    asked, go_on = threading.Event(), threading.Event()

    class Slow:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            if name == "slow_to_find":
                asked.set()
                go_on.wait()

    slow = Slow()
    monkeypatch.setattr(sys, "meta_path", [slow, *sys.meta_path])
    found: list[ModuleType] = []
    thread = threading.Thread(target=lambda: found.append(importlib.import_module("slow_to_find")))
    with ImportRecorder():
        thread.start()
        asked.wait()
    go_on.set()
    thread.join()
    assert [module.__name__ for module in found] == ["slow_to_find"]
    assert leftovers(["slow_to_find"]) == []
    sys.meta_path.remove(slow)


def test_a_recorder_that_was_taken_out_still_lets_others_find(site: Site) -> None:
    """A thread that asks the recorder just when it leaves gets an answer, not an error about a list."""
    site.write(plain="")
    with ImportRecorder() as recorder:
        pass
    spec = recorder.find_spec("plain")
    assert spec is not None
    assert spec.origin == str(site.folder / "plain.py")
    assert "exec_module" not in vars(spec.loader)


# -- what the host imports for itself ----------------------------------------------------------------------------------


@pytest.fixture
def harbour(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Where modules of the host's lie, that is called harbour here; and a module of the standard library is new."""
    monkeypatch.setattr(ownership, "_HOST", frozenset({"harbour"}))
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    yield site
    sys.modules.pop("colorsys", None)


def brought_and_hosts(*names: str) -> tuple[dict[str, ModuleWeight], int, int]:
    """Import modules; what that brought in by name, and bytes and blocks of the host."""
    with ImportRecorder() as recorder:
        for name in names:
            importlib.import_module(name)
        return {weight.name: weight for weight in recorder.brought()}, recorder.host_bytes, recorder.host_blocks


def test_modules_of_the_host_are_not_brought(harbour: Site, tracing: None) -> None:
    """They are weighed apart, together with what they bring of the standard library, which is told as the host's."""
    files = {
        "harbour/__init__.py": data(),
        "harbour/quay.py": f"import colorsys\nheld = [object() for _ in range(5000)]\n{data()}",
        "lamp.py": f"import harbour.quay\n{data()}",
    }
    harbour.write(files)
    brought, nbytes, blocks = brought_and_hosts("lamp")
    assert {name: weight.by_host for name, weight in brought.items()} == {"lamp": False, "colorsys": True}
    assert 2 * BIG < nbytes < 2 * BIG + 5000 * 100 + SLACK
    assert 5000 < blocks < 7000
    traced = brought["lamp"].traced_bytes
    assert traced is not None
    assert abs(traced - BIG) < SLACK
    assert leftovers(["lamp", "colorsys", "harbour", "harbour.quay"]) == []


def test_a_stranger_that_comes_inside_of_the_host_is_brought(harbour: Site, tracing: None) -> None:
    """A plugin may have asked to be told of an import: what it then imports is its own, the standard library too."""
    harbour.write({"harbour.py": f"import flotsam\n{data()}", "flotsam.py": f"import colorsys\n{data(3 * BIG)}"})
    brought, nbytes, _ = brought_and_hosts("harbour")
    assert {name: weight.by_host for name, weight in brought.items()} == {"flotsam": False, "colorsys": False}
    assert abs(nbytes - BIG) < SLACK


def test_what_a_function_of_the_host_imports_is_the_hosts(harbour: Site, tracing: None) -> None:
    """Of the standard library; what it imports for a plugin by its name is the plugin's."""
    harbour.write(
        {
            "harbour.py": "import importlib\ndef work():\n    import colorsys\n    importlib.import_module('lamp')\n",
            "lamp.py": data(),
            "caller.py": "import harbour\nharbour.work()\n",
        }
    )
    brought, nbytes, _ = brought_and_hosts("caller")
    assert {name: one.by_host for name, one in brought.items()} == {"caller": False, "lamp": False, "colorsys": True}
    assert 0 < nbytes < SLACK


def test_the_standard_library_that_a_plugin_imports_is_not_the_hosts(harbour: Site, tracing: None) -> None:
    """Two recorders are at work, one for each host, and neither is taken for the one that imports."""
    harbour.write({"lamp.py": "import colorsys\n"})
    with ImportRecorder() as outer:
        brought, nbytes, _ = brought_and_hosts("lamp")
        both = [*brought.values(), *outer.brought()]
    assert [one.by_host for one in both] == [False] * 4
    assert (nbytes, outer.host_bytes) == (0, 0)


CYCLES = """
import gc
gc.disable()
for _ in range(3):
    cycle = [bytearray({})]
    cycle.append(cycle)
    del cycle
"""


def test_garbage_is_on_nobodys_scale(harbour: Site, tracing: None) -> None:
    """What of the host's modules is garbage at once is not theirs; garbage from before is not set off against them."""
    harbour.write({"harbour.py": data() + CYCLES.format(BIG), "lamp.py": CYCLES.format(5 * BIG) + "import harbour\n"})
    gc.collect()
    try:
        _, nbytes, _ = brought_and_hosts("lamp")
    finally:
        gc.enable()
    assert abs(nbytes - BIG) < SLACK


def test_a_module_of_the_host_that_fails_weighs_nothing(harbour: Site, tracing: None) -> None:
    """It is garbage, and is not among what the plugin leaves behind; what it brought before it failed stays weighed."""
    harbour.write({"harbour.py": f"import colorsys\n{data()}raise ImportError('the system has none')\n"})
    with ImportRecorder() as recorder:
        with pytest.raises(ImportError, match="the system has none"):
            importlib.import_module("harbour")
        assert 0 < recorder.host_bytes < SLACK
        assert recorder.vanished() == ()
        assert [(one.name, one.by_host) for one in recorder.brought()] == [("colorsys", True)]


def test_looking_for_a_module_of_the_host_weighs_nothing(harbour: Site, tracing: None) -> None:
    """Whether it is installed may be asked without importing it; the next import is weighed for itself."""
    harbour.write({"harbour.py": data(), "lamp.py": data()})
    with ImportRecorder() as recorder:
        assert importlib.util.find_spec("harbour") is not None
        held = bytearray(BIG)
        importlib.import_module("lamp")
        assert (recorder.host_bytes, len(held)) == (0, BIG)
        [weight] = recorder.brought()
    assert weight.traced_bytes is not None
    assert abs(weight.traced_bytes - BIG) < SLACK


def test_what_a_failed_load_brought_was_weighed(
    monkeypatch: pytest.MonkeyPatch, temporary_plugin: TemporaryPlugin
) -> None:
    """The modules of the standard library that stay are on their line, though nothing traces when they are entered."""
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    temporary_plugin("fails", "import colorsys\n1 / 0\n")
    with IsolatedHost() as host:
        host.allow("fails")
        with pytest.raises(LoadFailed):
            host.load("fails")
        assert (host.accounts().stdlib_bytes or 0) > 1000
        assert host.accounts().unattributed_bytes is not None
